"""The pivots nearest to descriptors: found by matrix products, decided by sums that are exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots import Pivots

__all__ = ["NearestPivots"]

# Bytes of float32 similarities held at once.
BLOCK_BYTES = 32 * 2**20
# Bytes of float64 pivots that are compared exactly at once.
EXACT_BYTES = 16 * 2**20


class NearestPivots:
    """Which pivots are nearest to a descriptor, the nearest first, equally near ones by number.

    Near means by cosine or by squared Euclidean distance. Both are computed on a grid: a descriptor is rounded to
    whole multiples of a power of two, chosen by its largest component, and so is each pivot, such that any sum of D
    products is a whole number of at most 2^53 (D = 2,048: 21 bits for the largest component). Float64 holds such sums
    exactly, whatever the order of summation: every machine, block size and BLAS finds the same pivots.

    Most pivots need not be compared exactly: a float32 product with a bound on its error rules them out.

    Args:
        pivots: to choose from.
    """

    def __init__(self, pivots: Pivots) -> None:
        self.pivots = pivots
        self._lock = Lock()
        self._table: _Table | None = None

    def __reduce__(self) -> tuple[type[NearestPivots], tuple[Pivots]]:
        """A lock cannot be pickled, and the tables are quicker made than moved."""
        return (type(self), (self.pivots,))

    def nearest(self, features: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The nearest pivots of descriptors.

        Args:
            features: float32 (N, D), every row finite and not zero.
            count: how many, at most P.

        Returns:
            Numbers of pivots, int32 (N, count), the nearest first; and how near, float64 (N, count), descending: the
            cosine times the length of the descriptor, or minus the squared distance.
        """
        table = self._tables()
        numbers = np.empty((len(features), count), dtype=np.int32)
        nearness = np.empty((len(features), count), dtype=np.float64)
        for start in range(0, len(features), table.rows_per_block):
            block = features[start : start + table.rows_per_block]
            for row, (near, how) in enumerate(table.nearest(block, count), start):
                numbers[row], nearness[row] = near, how
        return numbers, nearness

    def _tables(self) -> _Table:
        with self._lock:
            if self._table is None:
                self._table = _Table(self.pivots)
            return self._table


class _Table:
    """Pivots on the grid, and in float32 for the first look."""

    def __init__(self, pivots: Pivots) -> None:
        self.cosine = pivots.metric == "cosine"
        self.pivots = pivots.features
        P, D = self.pivots.shape
        # D products of two whole numbers of up to 2^bits are at most 2^53.
        self.bits = (53 - math.ceil(math.log2(D))) // 2
        self.units = _units(np.abs(self.pivots).max(axis=1), self.bits)  # (P,)
        self.squares = np.empty(P)  # ‖p‖² in units²
        step = max(1, EXACT_BYTES // (8 * D))
        for start in range(0, P, step):
            exact = self._on_grid(slice(start, start + step))
            self.squares[start : start + step] = np.einsum("pd,pd->p", exact, exact)
        lengths = np.sqrt(self.squares) * self.units
        # All that the first look multiplies is at most 1, so that nothing overflows.
        self.longest = float(lengths.max()) or 1.0
        scale = 1 / (lengths if self.cosine else self.longest)
        scale = np.broadcast_to(scale, P)[:, np.newaxis]
        self.first_look = np.empty((P, D), dtype=np.float32)
        for start in range(0, P, step):
            piece = slice(start, start + step)
            self.first_look[piece] = self.pivots[piece] * scale[piece]
        self.halves = ((lengths / self.longest) ** 2 / 2).astype(np.float32)
        self.rows_per_block = max(1, BLOCK_BYTES // (4 * P))

    def nearest(
        self, block: NDArray[np.float32], count: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each row of (n, D): (numbers, nearness), each (count,)."""
        units = _units(np.abs(block).max(axis=1), self.bits)  # (n,)
        exact = np.rint(block / units[:, np.newaxis])  # (n, D)
        lengths = np.linalg.norm(exact, axis=1) * units
        scale = 1 / (lengths if self.cosine else lengths + self.longest)
        look = (exact * (units * scale)[:, np.newaxis]).astype(np.float32) @ self.first_look.T  # (n, P)
        if not self.cosine:  # p·q − ‖p‖²/2 orders as the distance does
            look -= np.outer(self.longest * scale, self.halves).astype(np.float32)
        P, D = self.pivots.shape
        bounds = np.partition(look, P - count, axis=1)[:, P - count] - 2 * _first_look_error(D)
        for row, bound in enumerate(bounds):
            (candidates,) = np.nonzero(look[row] >= bound)
            yield self._ordered(exact[row], float(units[row]), candidates, count)

    def _ordered(
        self, exact: NDArray[np.float64], unit: float, candidates: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The nearest of some pivots to one descriptor on the grid (D,)."""
        products = np.empty(len(candidates))
        step = max(1, EXACT_BYTES // (8 * len(exact)))
        for start in range(0, len(candidates), step):
            products[start : start + step] = self._on_grid(candidates[start : start + step]) @ exact
        squares = self.squares[candidates]
        if self.cosine:
            nearness = products / np.sqrt(squares) * unit
        else:
            units = self.units[candidates]
            nearness = products * units * unit - squares * units**2 / 2
        order = np.argsort(-nearness, kind="stable")[:count]  # candidates ascend, so equal ones stay by number
        nearness = nearness[order]
        if not self.cosine:  # only now: ‖q‖² could swamp the differences
            nearness = np.minimum(2 * nearness - float(exact @ exact) * unit**2, 0)
        return candidates[order], nearness

    def _on_grid(self, which: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        """Pivots as whole multiples of their units."""
        return np.rint(self.pivots[which] / self.units[which, np.newaxis])


def _units(largest: NDArray[np.floating[Any]], bits: int) -> NDArray[np.float64]:
    """Powers of two of which each number is at most 2^bits multiples."""
    units: NDArray[np.float64] = np.ldexp(1.0, np.frexp(largest.astype(np.float64))[1] - bits)
    return units


def _first_look_error(dimensions: int) -> float:
    """A bound on the error of a float32 product of two vectors of length 1, and of what is subtracted from it."""
    # Both vectors are rounded once, then D products are summed in any order (Higham, Accuracy and Stability of
    # Numerical Algorithms, 3.1); doubled for the subtraction and the terms of second order.
    return 2.0 * (dimensions + 4) * 2.0**-24
