"""Score documents by exact cosine, comparing every query with every document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExactCosine"]


class ExactCosine:
    """The brute-force baseline of the paper's Figure 1."""

    name = "exact cosine"
    settings = ("",)

    def start(self, queries: NDArray[np.float32]) -> None:
        """See `ScoringSystem.start`."""
        self._queries = queries

    def score(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score`."""
        return [self._queries @ block.T]

    def score_and_count(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score_and_count`."""
        return self.score(block)

    def measure_selectivity(self) -> None:
        """Return None: exact cosine has no posting lists."""

    def estimate_bytes(self, documents: int) -> int:
        """Return the size of the float32 vectors."""
        return 4 * int(self._queries.shape[1]) * documents
