"""Exact cosine: every query compared with every document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExactCosine"]


class ExactCosine:
    """The brute-force line of the paper's Figure 1."""

    name = "exact cosine"
    settings = ("",)

    def start(self, queries: NDArray[np.float32]) -> None:
        """As of every system."""
        self._queries = queries

    def scores(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        return [self._queries @ block.T]

    def read(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        return self.scores(block)

    def selectivity(self) -> None:
        """It has no lists."""

    def stored_bytes(self, documents: int) -> int:
        """Of float32 vectors."""
        return 4 * int(self._queries.shape[1]) * documents
