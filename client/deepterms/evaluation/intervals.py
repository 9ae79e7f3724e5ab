"""Turn one value per query into a mean with a bootstrap interval, or two systems' values into a paired difference."""

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
    """A mean over queries with its 95 % bootstrap interval.

    Attributes:
        mean: over the given queries.
        low: 2.5th percentile of the means of the resampled queries.
        high: 97.5th percentile.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is larger than the choice of queries explains."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Average one value per query and compute the 95 % percentile interval over resampled queries.

    Args:
        values: numbers (Q,).
        seed: the same values and seed give the same interval.
        resamples: how many times to draw Q queries with replacement.

    Raises:
        InvalidInput: there are no values, or the array has more than one axis.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InvalidInput(f"values have shape {array.shape}; expected one number per query")
    rng = np.random.default_rng(seed)
    # A resample is stored as the number of times each query was drawn, so one matrix product gives all the means.
    drawn = rng.multinomial(len(array), np.full(len(array), 1 / len(array)), size=resamples)  # (resamples, Q)
    means: NDArray[np.float64] = drawn @ array / len(array)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(array.mean()), float(low), float(high))


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Subtract the second system's values from the first's, query by query.

    Pairing keeps queries that are hard for both systems from widening the interval.

    Args:
        first: numbers (Q,) of one system.
        second: numbers (Q,) of another system for the same queries in the same order.
        seed: for resampling.
        resamples: as in `bootstrap_mean`.

    Raises:
        InvalidInput: the shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise InvalidInput(
            f"cannot pair values of shapes {one.shape} and {other.shape}; expected the same queries for both systems"
        )
    return bootstrap_mean(one - other, seed=seed, resamples=resamples)
