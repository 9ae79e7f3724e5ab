"""HNSW of FAISS: a graph over the whole vectors, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.systems.system import Answers
from deepterms.optional import faiss

__all__ = ["HNSW"]

NEIGHBOURS = 16
BUILD_BREADTH = 100


class HNSW:
    """As many hits as it is broad: with a breadth of 100 a query returns 100 documents.

    Args:
        dimensions: D.
        breadths: of the search (efSearch): one setting each.
        name: what to call it.

    Raises:
        InvalidInput: a breadth is not positive.
        MissingExtra: FAISS is not installed.
    """

    def __init__(self, dimensions: int, *, breadths: Sequence[int], name: str = "HNSW") -> None:
        if not breadths or min(breadths) < 1:
            raise InvalidInput(f"breadths are {list(breadths)}; expected one at least, each 1 or more")
        self._library = faiss("evaluate")
        self.name = name
        self.breadths = tuple(breadths)
        self.settings = tuple(f"breadth {breadth}" for breadth in breadths)
        self._index: Any = self._library.IndexHNSWFlat(dimensions, NEIGHBOURS, self._library.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = BUILD_BREADTH

    def add(self, block: NDArray[np.float32]) -> None:
        """As of every graph."""
        self._index.add(np.ascontiguousarray(block))

    def search(self, queries: NDArray[np.float32]) -> Sequence[Answers]:
        """As of every graph."""
        answers = []
        for breadth in self.breadths:
            statistics = self._library.cvar.hnsw_stats
            statistics.reset()
            parameters = self._library.SearchParametersHNSW(efSearch=breadth)
            _, numbers = self._index.search(queries, min(breadth, self._index.ntotal), params=parameters)
            answers.append(Answers(numbers, statistics.ndis / len(queries)))
        return answers

    def stored_bytes(self, documents: int) -> int:
        """Of the vectors and the links of the lowest layer, which are nearly all."""
        return documents * 4 * (int(self._index.d) + 2 * NEIGHBOURS)
