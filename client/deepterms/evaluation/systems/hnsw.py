"""Search documents with FAISS HNSW, a graph over full vectors in memory."""

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
    """HNSW with M = 16; a query returns `breadth` documents, so a breadth of 100 returns 100.

    Args:
        dimensions: D, the descriptor length.
        breadths: search breadths (efSearch), one setting each.
        name: for display.

    Raises:
        InvalidInput: there are no breadths, or one is not positive.
        MissingExtra: FAISS is not installed.
    """

    def __init__(self, dimensions: int, *, breadths: Sequence[int], name: str = "HNSW") -> None:
        if not breadths or min(breadths) < 1:
            raise InvalidInput(f"breadths are {list(breadths)}; expected at least one, each 1 or more")
        self._library = faiss("evaluate")
        self.name = name
        self.breadths = tuple(breadths)
        self.settings = tuple(f"breadth {breadth}" for breadth in breadths)
        self._index: Any = self._library.IndexHNSWFlat(dimensions, NEIGHBOURS, self._library.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = BUILD_BREADTH

    def add(self, block: NDArray[np.float32]) -> None:
        """See `GraphSystem.add`."""
        self._index.add(np.ascontiguousarray(block))

    def search(self, queries: NDArray[np.float32]) -> Sequence[Answers]:
        """See `GraphSystem.search`."""
        answers = []
        for breadth in self.breadths:
            statistics = self._library.cvar.hnsw_stats
            statistics.reset()
            parameters = self._library.SearchParametersHNSW(efSearch=breadth)
            _, numbers = self._index.search(queries, min(breadth, self._index.ntotal), params=parameters)
            answers.append(Answers(numbers, statistics.ndis / len(queries)))
        return answers

    def estimate_bytes(self, documents: int) -> int:
        """Return the size of the vectors and of the links in the lowest layer, which holds nearly all links."""
        return documents * 4 * (int(self._index.d) + 2 * NEIGHBOURS)
