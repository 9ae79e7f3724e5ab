"""Pivots and descriptors rounded to a grid on which dot products are exact, so that all machines rank pivots alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.products import multiply_candidates

__all__ = ["GridFeatures", "PivotGrid"]

# Bytes of float64 pivots rounded at once: they stay in the CPU cache.
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class GridFeatures:
    """Descriptors on the grid.

    Attributes:
        numbers: components as whole multiples of the row's unit, float64 (N, D).
        units: powers of two, float64 (N,).
        lengths: L2 norms of the rows of `numbers` times `units`, float64 (N,).
    """

    numbers: NDArray[np.float64]
    units: NDArray[np.float64]
    lengths: NDArray[np.float64]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> GridFeatures:
        """Select rows."""
        return GridFeatures(self.numbers[rows], self.units[rows], self.lengths[rows])

    def divide(self, lengths: NDArray[np.float64] | float) -> NDArray[np.float32]:
        """Divide descriptors by lengths, one per row or one for all: float32 (N, D)."""
        return (self.numbers * (self.units / lengths)[:, np.newaxis]).astype(np.float32)


class PivotGrid:
    """Compares pivots with descriptors exactly.

    Each descriptor and each pivot is rounded to whole multiples of a power of two, chosen from its largest component so
    that any sum of D products is a whole number of at most 2^53 (D = 2,048: the largest component has 21 bits).
    Float64 holds such sums exactly, whatever the order of summation, the block size or the BLAS.

    Args:
        pivots: the pivots to compare with.

    Attributes:
        numbers: components as whole multiples of the row's unit, float32 (P, D).
        scale: float32 (P,); a row of `numbers` times its scale has length 1 (cosine), or at most 1 (l2).
        longest: the largest length of a pivot.
        max_error: the largest error of an `estimate`.
    """

    def __init__(self, pivots: Pivots) -> None:
        self.cosine = pivots.metric == "cosine"
        P, D = pivots.features.shape
        self.bits = (53 - math.ceil(math.log2(D))) // 2
        self._units = _choose_units(np.abs(pivots.features).max(axis=1), self.bits)  # (P,)
        self._squares = np.empty(P)  # ‖p‖² in units²
        self.numbers = np.empty((P, D), dtype=np.float32)
        step = max(1, BLOCK_BYTES // (8 * D))
        for start in range(0, P, step):
            piece = slice(start, start + step)
            numbers = np.rint(pivots.features[piece] / self._units[piece, np.newaxis])
            self._squares[piece] = np.einsum("pd,pd->p", numbers, numbers)
            self.numbers[piece] = numbers
        lengths = np.sqrt(self._squares) * self._units
        self.longest = float(lengths.max()) or 1.0
        unit_length = lengths if self.cosine else np.full(P, self.longest)
        self.scale = (self._units / unit_length).astype(np.float32)
        self._halves = ((lengths / unit_length) ** 2 / 2).astype(np.float32)
        # Both vectors are rounded, then D products are summed in any order (Higham, Accuracy and Stability of Numerical
        # Algorithms, 3.1). The factor 2 covers the subtraction and second-order terms.
        self.max_error = 2.0 * (D + 4) * 2.0**-24

    def round(self, features: NDArray[np.float32]) -> GridFeatures:
        """Round descriptors (N, D) to the grid. Every row must be finite and not zero."""
        units = _choose_units(np.abs(features).max(axis=1), self.bits)
        numbers = np.rint(features / units[:, np.newaxis])
        return GridFeatures(numbers, units, np.linalg.norm(numbers, axis=1) * units)

    def estimate(self, features: GridFeatures, candidates: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Estimate nearness in float32, with an error of at most `max_error`, to rule out most pivots.

        Args:
            features: N descriptors.
            candidates: pivot numbers, int64 (N, C), −1 for none; default: all P pivots for every row.

        Returns:
            float32 (N, C), a measure that ranks a row's pivots as their nearness does; −∞ for none.
        """
        lengths = features.lengths if self.cosine else features.lengths + self.longest
        scaled = features.divide(lengths)  # of length at most 1
        if candidates is not None:
            nearness = multiply_candidates(scaled, self.numbers, candidates) * self.scale[candidates]
        elif len(scaled) == 1:  # not BLAS: on a busy machine its threads wait for each other, 20 ms instead of 0.2
            nearness = np.einsum("nd,pd->np", scaled, self.numbers) * self.scale
        else:
            nearness = scaled @ self.numbers.T
            nearness *= self.scale
        if not self.cosine:  # p·q − ‖p‖²/2 ranks as the distance does
            halves = self._halves if candidates is None else self._halves[candidates]
            nearness -= ((self.longest / lengths)[:, np.newaxis] * halves).astype(np.float32)
        if candidates is not None:
            nearness[candidates < 0] = -np.inf
        return nearness

    def rank(
        self, features: GridFeatures, candidates: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rank candidates exactly and return the nearest.

        Args:
            features: N descriptors.
            candidates: pivot numbers, int64 (N, C), C at least `count`, ascending within each row; −1 for none.
            count: the number of pivots to return.

        Returns:
            Pivot numbers, int32 (N, count), nearest first, ties by number; and their nearness, float64 (N, count),
            descending: the cosine times the descriptor's length, or minus the squared distance.
        """
        nearness = self.compare(features, candidates)
        best = np.argsort(-nearness, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(best))[:, np.newaxis]  # several times faster than np.take_along_axis for one query
        nearness = nearness[rows, best]
        if not self.cosine:  # subtracted last, as ‖q‖² could swamp the differences
            nearness = np.minimum(2 * nearness - features.lengths[:, np.newaxis] ** 2, 0)
        return candidates[rows, best].astype(np.int32), nearness

    def compare(self, features: GridFeatures, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compare candidates exactly, by a measure that ranks them as their nearness does.

        Args:
            features: N descriptors.
            candidates: pivot numbers, int64 (N, C), −1 for none.

        Returns:
            float64 (N, C): the cosine times the descriptor's length, or q·p − ‖p‖²/2; −∞ for none.
        """
        products = multiply_candidates(features.numbers, self.numbers, candidates)
        squares = self._squares[candidates]
        units = features.units[:, np.newaxis]
        if self.cosine:
            nearness = products / np.sqrt(squares) * units
        else:
            own = self._units[candidates]
            nearness = products * own * units - squares * own**2 / 2
        nearness[candidates < 0] = -np.inf
        return nearness

    def measure_reach(self, features: GridFeatures) -> NDArray[np.float64]:
        """Measure the largest possible distance of descriptors to pivots, in the unit of `measure_squares`: (N,)."""
        return np.full(len(features.units), 2.0) if self.cosine else features.lengths / self.longest + 1

    def measure_squares(self, features: GridFeatures, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Measure squared distances from exact products.

        Args:
            features: N descriptors.
            candidates: pivot numbers, int64 (N, C); the distance to a negative one is undefined.

        Returns:
            float64 (N, C), of unit vectors for ``cosine``, and in units of the longest pivot's squared length for
            ``l2``.
        """
        products = multiply_candidates(features.numbers, self.numbers, candidates)
        lengths, units = features.lengths[:, np.newaxis], features.units[:, np.newaxis]
        if self.cosine:
            return 2 - 2 * products / (np.sqrt(self._squares[candidates]) * (lengths / units))
        own = self._units[candidates]
        return (lengths**2 + self._squares[candidates] * own**2 - 2 * (products * own * units)) / self.longest**2

    def estimate_squares(
        self, features: GridFeatures, estimates: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn estimates of nearness (N, C) into squared distances as of `measure_squares`.

        Returns:
            The squared distances, float64 (N, C), and their largest error, float64 (N,).
        """
        if self.cosine:
            return 2 - 2 * estimates.astype(np.float64), np.full(len(estimates), 2 * self.max_error)
        lengths = features.lengths / self.longest
        squares = lengths[:, np.newaxis] ** 2 - 2 * (lengths[:, np.newaxis] + 1) * estimates
        # The second term is for descriptors so long that their squared length swamps the differences.
        return squares, 2 * (lengths + 1) * self.max_error + lengths**2 * 2.0**-48

    def view_pivots(self, numbers: NDArray[np.int64]) -> GridFeatures:
        """View pivots, given by number, as descriptors."""
        units = self._units[numbers]
        return GridFeatures(self.numbers[numbers].astype(np.float64), units, np.sqrt(self._squares[numbers]) * units)

    def estimate_gaps(self, pivots: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Estimate squared distances between pivots in float32, with an error of at most 2·`max_error`.

        Args:
            pivots: pivot numbers, int64 (N,).
            candidates: numbers of the pivots to compare each with, int64 (N, C).

        Returns:
            float64 (N, C), in the unit of `measure_squares`.
        """
        products = multiply_candidates(self.numbers[pivots], self.numbers, candidates) * self.scale[candidates]
        halves = self._halves[pivots, np.newaxis].astype(np.float64) + self._halves[candidates]
        return 2 * (halves - products * self.scale[pivots, np.newaxis].astype(np.float64))


def _choose_units(largest: NDArray[np.floating[Any]], bits: int) -> NDArray[np.float64]:
    """Choose for each number a power of two, so that the number is at most 2^bits multiples of it."""
    units: NDArray[np.float64] = np.ldexp(1.0, np.frexp(largest.astype(np.float64))[1] - bits)
    return units
