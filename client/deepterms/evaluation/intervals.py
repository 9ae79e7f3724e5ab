"""Values of queries into a mean with its bootstrap interval, and the difference of two systems query by query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = ["Interval", "bootstrap_mean", "paired_difference"]

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over queries, and where it would lie for other queries of the kind.

    Attributes:
        mean: of the queries at hand.
        low: 2.5th percentile of the means of resampled queries.
        high: 97.5th percentile.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than chance in the choice of queries."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of one value a query, with its 95 % percentile interval over resampled queries.

    Args:
        values: numbers (Q,).
        seed: the same values and seed give the same interval.
        resamples: how often Q queries are drawn with replacement.

    Raises:
        InvalidInput: no values, or more than one axis.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidInput(f"values have shape {array.shape}; expected one number for each query")
    rng = np.random.default_rng(seed)
    # A resample is how often each query was drawn: one product gives all means.
    drawn = rng.multinomial(len(array), np.full(len(array), 1 / len(array)), size=resamples)  # (resamples, Q)
    means: NDArray[np.float64] = drawn @ array / len(array)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(array.mean()), float(low), float(high))


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """First minus second, query by query: the queries that are hard for both do not widen the interval.

    Args:
        first: numbers (Q,) of one system.
        second: numbers (Q,) of another, of the same queries in the same order.
        seed: of the resampling.
        resamples: as in `bootstrap_mean`.

    Raises:
        InvalidInput: not of the same shape.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise InvalidInput(f"values of {one.shape} and {other.shape} cannot be paired; expected the same queries")
    return bootstrap_mean(one - other, seed=seed, resamples=resamples)
