"""Spilling: from the pivots near a descriptor to those of its words, which should miss it in different directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid
from deepterms.encoders.pivots.products import list_columns

__all__ = ["CANDIDATES", "PENALTY", "spill_pivots"]

# The nearest pivots among which a descriptor's words are chosen, and λ, the weight of a parallel residual. Both are
# taken from the literature and from earlier experiments, and were not fitted to the collections measured here.
CANDIDATES = 32
PENALTY = 1.0
# A residual this much shorter than the descriptor is rounding: its direction means nothing, and it costs nothing.
NEGLIGIBLE = 2.0**-18


def spill_pivots(
    grid: PivotGrid, features: GridFeatures, candidates: NDArray[np.int64] | None, count: int
) -> NDArray[np.int64]:
    """Choose pivots as SOAR does (Sun et al., "SOAR: Improved Indexing for Approximate Nearest Neighbor Search", 2023).

    The first pivot is the nearest. Each further one is that of the 32 nearest which minimises

        ‖x − c‖² + λ · Σ ((x − c_t)·(x − c))² / ‖x − c_t‖²

    over the pivots c_t chosen before it, where λ is 1: a pivot whose residual x − c is parallel to theirs finds the
    descriptor for the same queries as they do, and misses it for the same. Ties go to the lower number. For the metric
    ``cosine``, x and c are unit vectors. If x equals c_t, up to rounding, c_t adds nothing to the sum.

    Losses are estimated in float32. Where the errors of the estimates leave several candidates, their losses are
    computed from exact products, so the choice is the same on every machine.

    Args:
        grid: the P pivots.
        features: N descriptors.
        candidates: pivot numbers, int64 (N, C), ascending, −1 for none, at least min(P, 32) of them per row; None for
            all pivots.
        count: the number of pivots per descriptor, below min(P, 32).

    Returns:
        Pivot numbers, int64 (N, count), in the order in which they were chosen.
    """
    numbers, estimates = _find_nearest(grid, features, candidates, min(len(grid.numbers), CANDIDATES))
    losses = _Losses(grid, features, numbers, estimates)
    columns = _find_first(grid, features, numbers, estimates)
    losses.take(columns)
    for _ in range(1, count):
        losses.penalise(columns)
        columns = losses.find_smallest()
        losses.take(columns)
    return np.stack(losses.taken, axis=1)


def _find_nearest(
    grid: PivotGrid, features: GridFeatures, candidates: NDArray[np.int64] | None, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the `count` nearest candidates, in ascending order of their numbers, and the estimates of their nearness."""
    estimates = grid.estimate(features, candidates)
    N, C = estimates.shape
    if count == C:
        chosen = np.ones((N, C), dtype=bool)
    else:
        ordered = np.partition(estimates, (C - count - 1, C - count), axis=1)
        chosen = estimates > ordered[:, C - count - 1, np.newaxis] + 2 * grid.max_error
        unclear = (estimates >= ordered[:, C - count, np.newaxis] - 2 * grid.max_error) & ~chosen
        free = count - chosen.sum(axis=1)
        crowded = unclear.sum(axis=1) > free
        chosen |= unclear & ~crowded[:, np.newaxis]
        (rows,) = np.nonzero(crowded)
        if len(rows):
            columns = list_columns(unclear[rows])
            order = np.argsort(-grid.compare(features[rows], _pick(candidates, rows, columns)), axis=1, kind="stable")
            places, ranks = np.nonzero(np.arange(columns.shape[1]) < free[rows, np.newaxis])
            chosen[rows[places], columns[places, order[places, ranks]]] = True
    columns = np.nonzero(chosen)[1].reshape(N, count)
    return _pick(candidates, np.arange(N), columns), estimates[np.arange(N)[:, np.newaxis], columns]


def _find_first(
    grid: PivotGrid, features: GridFeatures, numbers: NDArray[np.int64], estimates: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Find the columns of the nearest pivots: int64 (N,)."""
    near = estimates >= estimates.max(axis=1, keepdims=True) - 2 * grid.max_error
    first: NDArray[np.int64] = near.argmax(axis=1)
    (rows,) = np.nonzero(near.sum(axis=1) > 1)
    if len(rows):
        columns = list_columns(near[rows])
        best = grid.compare(features[rows], _pick(numbers, rows, columns)).argmax(axis=1)
        first[rows] = columns[np.arange(len(rows)), best]
    return first


class _Losses:
    """Bounds of the losses of each descriptor's candidates.

    Squared distances are of unit vectors for ``cosine``, and in units of the longest pivot's squared length for ``l2``.

    Args:
        grid: the pivots.
        features: N descriptors.
        numbers: the candidates, int64 (N, C), ascending.
        estimates: their nearness, float32 (N, C), from the grid.

    Attributes:
        taken: pivots chosen so far, int64 (N,) each.
    """

    def __init__(
        self, grid: PivotGrid, features: GridFeatures, numbers: NDArray[np.int64], estimates: NDArray[np.float32]
    ) -> None:
        self.taken: list[NDArray[np.int64]] = []
        self._grid, self._features, self._numbers = grid, features, numbers
        self._rows = np.arange(len(numbers))
        squares, errors = grid.estimate_squares(features, estimates)
        self._squares, self._error = squares, errors[:, np.newaxis]
        self._negligible = (grid.measure_reach(features)[:, np.newaxis] * NEGLIGIBLE) ** 2
        self._low, self._high = squares - self._error, squares + self._error

    def take(self, columns: NDArray[np.int64]) -> None:
        """Take a candidate of each descriptor, given by its column: int64 (N,)."""
        self.taken.append(self._numbers[self._rows, columns])
        self._low[self._rows, columns] = self._high[self._rows, columns] = np.inf

    def penalise(self, columns: NDArray[np.int64]) -> None:
        """Add to all losses the penalty for a candidate taken, given by its column: int64 (N,)."""
        gaps = self._grid.estimate_gaps(self._numbers[self._rows, columns], self._numbers)
        length, error = self._squares[self._rows, columns, np.newaxis], self._error
        products = np.abs(length + self._squares - gaps) / 2
        off = 1.5 * error  # each of the three squares may be off by the error, or less
        known = length - error > self._negligible
        smallest = np.maximum(products - off, 0) ** 2 / (length + error)
        largest = (products + off) ** 2 / np.where(known, length - error, 1)
        most = self._squares + error  # by the Cauchy-Schwarz inequality
        self._low += PENALTY * np.where(known, smallest, 0)
        self._high += PENALTY * np.where(known, np.minimum(largest, most), most)

    def find_smallest(self) -> NDArray[np.int64]:
        """Find the column of each descriptor's candidate with the smallest loss, ties by number: int64 (N,)."""
        left = self._low <= self._high.min(axis=1, keepdims=True)
        smallest: NDArray[np.int64] = left.argmax(axis=1)
        (rows,) = np.nonzero(left.sum(axis=1) > 1)
        if len(rows):
            columns = list_columns(left[rows])
            losses = self._compute(rows, _pick(self._numbers, rows, columns))
            smallest[rows] = columns[np.arange(len(rows)), losses.argmin(axis=1)]
        return smallest

    def _compute(self, rows: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the losses of candidates (n, c) of some descriptors from exact products: float64 (n, c)."""
        features = self._features[rows]
        squares = self._grid.measure_squares(features, candidates)
        losses: NDArray[np.float64] = squares.copy()
        for taken in self.taken:
            length = self._grid.measure_squares(features, taken[rows, np.newaxis])
            gaps = self._grid.measure_squares(self._grid.view_pivots(taken[rows]), candidates)
            products = (length + squares - gaps) / 2
            known = length > self._negligible[rows]
            losses += PENALTY * np.where(known, products**2 / np.where(known, length, 1), 0)
        losses[candidates < 0] = np.inf
        return losses


def _pick(
    candidates: NDArray[np.int64] | None, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pick candidates by their columns (n, c) in some rows (n,); −1 stays −1, and columns are numbers without any."""
    return columns if candidates is None else np.where(columns < 0, -1, candidates[rows[:, np.newaxis], columns])
