"""The pivots nearest to descriptors: all compared, or all in few dimensions and the best of them in all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.projection import PivotProjection
from deepterms.errors import InvalidInput

__all__ = ["NearestPivots", "Search", "select_search"]

Search: TypeAlias = Literal["exact", "projected"]
"""How pivots are found: ``exact`` compares with all of them, ``projected`` too, but most in few dimensions only."""

# Up to how many pivots all are compared unless told otherwise (benchmarks/pivot_assignment.py).
MAX_EXACT = 1_024
# Bytes of float32 similarities held at once.
BLOCK_BYTES = 32 * 2**20
# Descriptors that one thread projects at once.
PROJECTED_ROWS = 256


def select_search(search: Search | Literal["auto"], pivots: Pivots) -> Search:
    """What ``auto`` stands for, whatever is installed: ``exact`` up to 1,024 pivots, ``projected`` above.

    Raises:
        InvalidInput: it is none of them.
    """
    if search == "auto":
        return "exact" if len(pivots) <= MAX_EXACT else "projected"
    if search not in get_args(Search):
        raise InvalidInput(f"search is {search!r}; expected one of auto, {', '.join(get_args(Search))}")
    return search


class NearestPivots:
    """Which pivots are nearest to a descriptor, the nearest first, equally near ones by number.

    Near means by cosine or by squared Euclidean distance, compared exactly (see `PivotGrid`). ``exact`` finds the same
    pivots on every machine; ``projected`` may miss some, and what it finds is ordered exactly.

    What the search needs is made once, when it is first asked; threads may share it.

    Args:
        pivots: to choose from.
        search: ``exact`` or ``projected``.
    """

    def __init__(self, pivots: Pivots, search: Search = "exact") -> None:
        self.pivots = pivots
        self.search = search
        self._lock = Lock()
        self._grid: PivotGrid | None = None
        self._projection: PivotProjection | None = None

    def __reduce__(self) -> tuple[type[NearestPivots], tuple[Pivots, Search]]:
        """A lock cannot be pickled, and the tables are quicker made than moved."""
        return (type(self), (self.pivots, self.search))

    def nearest(self, features: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The nearest pivots of descriptors.

        Args:
            features: float32 (N, D), every row finite and not zero.
            count: how many, at most P.

        Returns:
            Numbers of pivots, int32 (N, count), the nearest first; and how near, float64 (N, count), descending: the
            cosine times the length of the descriptor, or minus the squared distance.
        """
        grid, projection = self._tables()
        rows = max(1, BLOCK_BYTES // (4 * len(self.pivots)))
        if projection:
            rows = min(rows, PROJECTED_ROWS)
        blocks = [features[start : start + rows] for start in range(0, len(features), rows)]
        if not blocks:
            return np.empty((0, count), dtype=np.int32), np.empty((0, count))

        def found(block: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
            placed = grid.place(block)
            return _compare_some(grid, projection, placed, count) if projection else _compare_all(grid, placed, count)

        if len(blocks) == 1:
            return found(blocks[0])
        if projection:
            threads = min(len(blocks), os.cpu_count() or 1)
            with ThreadPoolExecutor(threads) as pool:
                results = list(pool.map(found, blocks))
        else:  # BLAS has threads of its own
            results = list(map(found, blocks))
        return np.concatenate([numbers for numbers, _ in results]), np.concatenate([near for _, near in results])

    def _tables(self) -> tuple[PivotGrid, PivotProjection | None]:
        with self._lock:
            if self._grid is None:
                grid = PivotGrid(self.pivots)
                if self.search == "projected":
                    self._projection = PivotProjection(grid)
                self._grid = grid
            return self._grid, self._projection


def _compare_all(grid: PivotGrid, features: GridFeatures, count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """A look rules most pivots out; the others are compared exactly."""
    return grid.order(features, _possible(grid, features, count), count)


def _compare_some(
    grid: PivotGrid, projection: PivotProjection, features: GridFeatures, count: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Few dimensions rule most pivots out, and a look most of the others."""
    candidates = _possible(grid, features, count, projection.candidates(features, count))
    numbers, nearness = grid.order(features, candidates, count)
    (short,) = np.nonzero(np.isneginf(nearness[:, -1]))
    if len(short):  # fewer are told apart than are wanted
        numbers[short], nearness[short] = _compare_all(grid, features[short], count)
    return numbers, nearness


def _possible(
    grid: PivotGrid, features: GridFeatures, count: int, candidates: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Which of the candidates (N, C), or of all pivots, can be among the nearest: ascending, −1 to fill the rows."""
    look = grid.look(features, candidates)
    N, C = look.shape
    bounds = np.partition(look, C - count, axis=1)[:, C - count] - 2 * grid.error
    rows, columns = np.nonzero(look >= bounds[:, np.newaxis])
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    possible = np.full((N, places.max() + 1), -1, dtype=np.int64)
    possible[rows, places] = columns if candidates is None else candidates[rows, columns]
    return possible
