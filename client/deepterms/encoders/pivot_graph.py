"""A graph over pivots: the candidates for a descriptor's nearest pivots, without comparing it with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivot_grid import GridFeatures, PivotGrid
from deepterms.encoders.principal_components import PrincipalComponents
from deepterms.errors import MissingExtra

__all__ = ["PivotGraph", "faiss", "one_thread"]

# The graph is walked in this many principal components of the pivots; what it finds is compared in all dimensions. Of
# 8,192 pivots 128 components and a breadth of 64 found .94 (crops) and .74 (mixtures of descriptors); these find
# .99 and .94, in 1.4 times the time of a query.
COMPONENTS = 256
# Edges of a node and breadth of the search that finds them (Malkov and Yashunin, 2018), as measured in
# benchmarks/pivot_assignment.py.
NEIGHBOURS = 32
BUILD_BREADTH = 64
# The walk keeps this many of the nearest in sight for each that is wanted, at least 128, and half of them are compared.
BREADTH_A_PIVOT = 4
LEAST_BREADTH = 128


class PivotGraph:
    """A navigable small-world graph (faiss, HNSW) over the principal components of pivots.

    It is built on one thread, so that equal pivots give an equal graph where they have equal components.

    Args:
        grid: the pivots.

    Raises:
        MissingExtra: faiss is not installed.
    """

    def __init__(self, grid: PivotGrid) -> None:
        self._components = PrincipalComponents(grid, COMPONENTS)
        with one_thread():
            self._index = _build(self._components.pivots, cosine=grid.cosine)

    def candidates(self, features: GridFeatures, count: int) -> NDArray[np.int64]:
        """Among which pivots to look for the nearest.

        Args:
            features: N descriptors.
            count: how many are wanted of each.

        Returns:
            Numbers of pivots, int64 (N, C), ascending; −1 where the graph leads to fewer.
        """
        breadth = max(LEAST_BREADTH, BREADTH_A_PIVOT * count)
        most = min(breadth // 2, self._index.ntotal)
        with one_thread():
            _, found = self._index.search(self._components.of(features), most, params=_parameters(breadth))
        numbers: NDArray[np.int64] = np.sort(found, axis=1)
        return numbers


@lru_cache(maxsize=64)
def _parameters(breadth: int) -> Any:
    """They cost more to make than a short walk; nothing writes to them."""
    return faiss().SearchParametersHNSW(efSearch=breadth)


def _build(pivots: NDArray[np.float32], *, cosine: bool) -> Any:
    module = faiss()
    metric = module.METRIC_INNER_PRODUCT if cosine else module.METRIC_L2
    # Half precision finds the same candidates in two thirds of the time: the walk waits for memory.
    index = module.IndexHNSWSQ(pivots.shape[1], module.ScalarQuantizer.QT_fp16, NEIGHBOURS, metric)
    index.hnsw.efConstruction = BUILD_BREADTH
    index.add(pivots)
    return index


@contextmanager
def one_thread() -> Iterator[None]:
    """Let faiss work in the calling thread alone: threads for one descriptor cost 10 ms where others use the cores.

    Raises:
        MissingExtra: faiss is not installed.
    """
    module = faiss()
    before = module.omp_get_max_threads()  # of this thread
    module.omp_set_num_threads(1)
    try:
        yield
    finally:
        module.omp_set_num_threads(before)


def faiss() -> Any:
    """The library, imported when it is needed first.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module("faiss")
    except ImportError as error:
        raise MissingExtra("faiss-cpu", "pivots") from error
