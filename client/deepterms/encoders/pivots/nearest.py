"""Nearest pivots: from descriptors to the numbers of the pivots nearest to them, by exact or projected search."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.encoders.pivots.products import list_columns
from deepterms.encoders.pivots.projection import PivotProjection
from deepterms.encoders.pivots.spilling import CANDIDATES, spill_pivots
from deepterms.errors import InvalidInput

__all__ = ["NearestPivots", "Search", "select_search"]

T = TypeVar("T")

Search: TypeAlias = Literal["exact", "projected"]
"""``exact`` compares all pivots in full; ``projected`` compares all in few dimensions, and the best of them in full."""

# `auto` compares all pivots up to this number (benchmarks/pivot_assignment.py).
MAX_EXACT = 1_024
# Bytes of float32 similarities held at once.
BLOCK_BYTES = 32 * 2**20
# Descriptors projected at once by one thread.
PROJECTED_ROWS = 256
# Descriptors whose pivots are chosen at once: 1,280-d, the pivots taken so far are 5 MB each.
SPILLED_ROWS = 1_024


def select_search(search: Search | Literal["auto"], pivots: Pivots) -> Search:
    """Resolve ``auto``, whatever is installed: ``exact`` up to 1,024 pivots, ``projected`` above.

    Raises:
        InvalidInput: the search is unknown.
    """
    if search == "auto":
        return "exact" if len(pivots) <= MAX_EXACT else "projected"
    if search not in get_args(Search):
        raise InvalidInput(f"search is {search!r}; expected one of auto, {', '.join(get_args(Search))}")
    return search


class NearestPivots:
    """Finds the pivots nearest to descriptors, nearest first, ties by number.

    Nearness is the cosine or the squared Euclidean distance, compared exactly (see `PivotGrid`). ``exact`` finds the
    same pivots on every machine; ``projected`` may miss some, but ranks those that it finds exactly.

    The search tables are built once, on the first search. Threads may share an instance.

    Args:
        pivots: the pivots to search.
        search: ``exact`` or ``projected``.
    """

    def __init__(self, pivots: Pivots, search: Search = "exact") -> None:
        self.pivots = pivots
        self.search = search
        self._lock = Lock()
        self._grid: PivotGrid | None = None
        self._projection: PivotProjection | None = None

    def __reduce__(self) -> tuple[type[NearestPivots], tuple[Pivots, Search]]:
        """Pickle the pivots alone: a lock cannot be pickled, and rebuilding the tables is faster than copying them."""
        return (type(self), (self.pivots, self.search))

    def find(self, features: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Find the nearest pivots of descriptors.

        Args:
            features: float32 (N, D), every row finite and not zero.
            count: the number of pivots per descriptor, at most P.

        Returns:
            Pivot numbers, int32 (N, count), nearest first; and their nearness, float64 (N, count), descending: the
            cosine times the length of the descriptor, or minus the squared distance.
        """

        def search_block(
            grid: PivotGrid, projection: PivotProjection | None, rounded: GridFeatures
        ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
            if projection:
                return _compare_candidates(grid, projection, rounded, count)
            return _compare_all(grid, rounded, count)

        results = self._map_blocks(features, search_block)
        if not results:
            return np.empty((0, count), dtype=np.int32), np.empty((0, count))
        return np.concatenate([numbers for numbers, _ in results]), np.concatenate([near for _, near in results])

    def spill(self, features: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        """Choose the pivots of documents: near them, and with residuals in different directions.

        See `spill_pivots`. From 32 pivots per document on, or with a single one, they are the nearest.

        Args:
            features: float32 (N, D), every row finite and not zero.
            count: the number of pivots per document, at most P.

        Returns:
            Pivot numbers, int32 (N, count), the nearest first.
        """
        if count == 1 or count >= min(len(self.pivots), CANDIDATES):
            return self.find(features, count)[0]

        def spill_block(
            grid: PivotGrid, projection: PivotProjection | None, rounded: GridFeatures
        ) -> NDArray[np.int32]:
            if projection is None:
                return spill_pivots(grid, rounded, None, count).astype(np.int32)
            # As many candidates as for the nearest `count`: the farther of the 32 are rarely chosen.
            candidates = projection.find_candidates(rounded, count)
            numbers = np.empty((len(candidates), count), dtype=np.int32)
            enough = (candidates >= 0).sum(axis=1) >= CANDIDATES
            for rows, some in ((np.flatnonzero(enough), candidates[enough]), (np.flatnonzero(~enough), None)):
                if len(rows):  # without enough, the codes distinguish too few pivots
                    numbers[rows] = spill_pivots(grid, rounded[rows], some, count)
            return numbers

        results = self._map_blocks(features, spill_block, rows=SPILLED_ROWS)
        return np.concatenate(results) if results else np.empty((0, count), dtype=np.int32)

    def _map_blocks(
        self,
        features: NDArray[np.float32],
        function: Callable[[PivotGrid, PivotProjection | None, GridFeatures], T],
        *,
        rows: int | None = None,
    ) -> list[T]:
        """Apply a function to the tables and to descriptors, rounded to the grid, in blocks of at most `rows`."""
        grid, projection = self._build_tables()
        fitting = max(1, BLOCK_BYTES // (4 * len(self.pivots)))
        rows = min(fitting, rows or fitting, PROJECTED_ROWS if projection else fitting)
        blocks = [features[start : start + rows] for start in range(0, len(features), rows)]

        def apply(block: NDArray[np.float32]) -> T:
            return function(grid, projection, grid.round(block))

        if len(blocks) > 1 and projection:
            with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as pool:
                return list(pool.map(apply, blocks))
        return list(map(apply, blocks))  # BLAS has its own threads

    def _build_tables(self) -> tuple[PivotGrid, PivotProjection | None]:
        with self._lock:
            if self._grid is None:
                grid = PivotGrid(self.pivots)
                if self.search == "projected":
                    self._projection = PivotProjection(grid)
                self._grid = grid
            return self._grid, self._projection


def _compare_all(grid: PivotGrid, features: GridFeatures, count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Rule most pivots out by an estimate, and compare the others exactly."""
    return grid.rank(features, _prune(grid, features, count), count)


def _compare_candidates(
    grid: PivotGrid, projection: PivotProjection, features: GridFeatures, count: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Rule most pivots out in few dimensions, most of the others by an estimate, and compare the rest exactly."""
    candidates = _prune(grid, features, count, projection.find_candidates(features, count))
    numbers, nearness = grid.rank(features, candidates, count)
    (short,) = np.nonzero(np.isneginf(nearness[:, -1]))
    if len(short):  # the codes distinguish too few pivots
        numbers[short], nearness[short] = _compare_all(grid, features[short], count)
    return numbers, nearness


def _prune(
    grid: PivotGrid, features: GridFeatures, count: int, candidates: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Keep the candidates (N, C), by default all pivots, that can be among the nearest: ascending, padded with −1."""
    estimates = grid.estimate(features, candidates)
    N, C = estimates.shape
    bounds = np.partition(estimates, C - count, axis=1)[:, C - count] - 2 * grid.max_error
    columns = list_columns(estimates >= bounds[:, np.newaxis])
    if candidates is None:
        return columns
    return np.where(columns < 0, -1, candidates[np.arange(N)[:, np.newaxis], columns])
