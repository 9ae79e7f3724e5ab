"""Pivots and descriptors on a grid, where their products are exact: every machine finds the same order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.products import multiply_candidates

__all__ = ["GridFeatures", "PivotGrid"]

# Bytes of float64 pivots that are rounded at once: they stay in the cache.
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class GridFeatures:
    """Descriptors on the grid.

    Attributes:
        numbers: float64 (N, D), whole multiples of the row's unit.
        units: float64 (N,), powers of two.
        lengths: float64 (N,), L2 norms, in descriptors' units.
    """

    numbers: NDArray[np.float64]
    units: NDArray[np.float64]
    lengths: NDArray[np.float64]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> GridFeatures:
        """Some of the rows."""
        return GridFeatures(self.numbers[rows], self.units[rows], self.lengths[rows])

    def divided(self, lengths: NDArray[np.float64] | float) -> NDArray[np.float32]:
        """Descriptors by lengths, one for each or one for all: float32 (N, D)."""
        return (self.numbers * (self.units / lengths)[:, np.newaxis]).astype(np.float32)


class PivotGrid:
    """How near pivots are to descriptors, compared exactly.

    A descriptor is rounded to whole multiples of a power of two that its largest component sets, and so is each pivot,
    such that any sum of D products is a whole number of at most 2^53 (D = 2,048: the largest component has 21 bits).
    Float64 holds such sums exactly, whatever the order of summation, the block size or the BLAS.

    Args:
        pivots: to compare with.

    Attributes:
        numbers: float32 (P, D), whole multiples of the row's unit.
        scale: float32 (P,): times a row of `numbers`, a vector of length 1 (cosine), or of length at most 1 (l2).
        longest: the largest length of a pivot.
        error: how far a `look` is off, at most.
    """

    def __init__(self, pivots: Pivots) -> None:
        self.cosine = pivots.metric == "cosine"
        P, D = pivots.features.shape
        self.bits = (53 - math.ceil(math.log2(D))) // 2
        self._units = _units(np.abs(pivots.features).max(axis=1), self.bits)  # (P,)
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
        # Algorithms, 3.1); doubled for the subtraction and the terms of second order.
        self.error = 2.0 * (D + 4) * 2.0**-24

    def place(self, features: NDArray[np.float32]) -> GridFeatures:
        """Round descriptors (N, D), every row finite and not zero."""
        units = _units(np.abs(features).max(axis=1), self.bits)
        numbers = np.rint(features / units[:, np.newaxis])
        return GridFeatures(numbers, units, np.linalg.norm(numbers, axis=1) * units)

    def look(self, features: GridFeatures, candidates: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """About how near pivots are, to rule out most of them: in float32, `error` off at most.

        Args:
            features: N descriptors.
            candidates: numbers of pivots, int64 (N, C); −1 for none. By default every row has all P.

        Returns:
            float32 (N, C), in a measure that orders a row's pivots as nearness does; −∞ for none.
        """
        lengths = features.lengths if self.cosine else features.lengths + self.longest
        scaled = features.divided(lengths)  # at most of length 1
        if candidates is not None:
            look = multiply_candidates(scaled, self.numbers, candidates) * self.scale[candidates]
        elif len(scaled) == 1:  # not by BLAS: on a busy machine its threads wait for each other, 20 ms instead of 0.2
            look = np.einsum("nd,pd->np", scaled, self.numbers) * self.scale
        else:
            look = scaled @ self.numbers.T
            look *= self.scale
        if not self.cosine:  # p·q − ‖p‖²/2 orders as the distance does
            halves = self._halves if candidates is None else self._halves[candidates]
            look -= ((self.longest / lengths)[:, np.newaxis] * halves).astype(np.float32)
        if candidates is not None:
            look[candidates < 0] = -np.inf
        return look

    def order(
        self, features: GridFeatures, candidates: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The nearest of some pivots.

        Args:
            features: N descriptors.
            candidates: numbers of pivots, int64 (N, C), C at least `count`, ascending within a row; −1 for none.
            count: how many to return.

        Returns:
            Numbers of pivots, int32 (N, count), the nearest first and equally near ones by number; and how near,
            float64 (N, count), descending: the cosine times the descriptor's length, or minus the squared distance.
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
        best = np.argsort(-nearness, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(best))[:, np.newaxis]  # for one query several times as fast as np.take_along_axis
        nearness = nearness[rows, best]
        if not self.cosine:  # only now: ‖q‖² could swamp the differences
            nearness = np.minimum(2 * nearness - features.lengths[:, np.newaxis] ** 2, 0)
        return candidates[rows, best].astype(np.int32), nearness


def _units(largest: NDArray[np.floating[Any]], bits: int) -> NDArray[np.float64]:
    """Powers of two of which each number is at most 2^bits multiples."""
    units: NDArray[np.float64] = np.ldexp(1.0, np.frexp(largest.astype(np.float64))[1] - bits)
    return units
