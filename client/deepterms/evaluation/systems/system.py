"""The interfaces of systems under comparison: score documents block by block, or hold all of them and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.evaluation.selectivity import Selectivity

__all__ = ["Answers", "GraphSystem", "ScoringSystem"]


class ScoringSystem(Protocol):
    """A system that scores each document independently of the others, so it does not have to keep any."""

    @property
    def name(self) -> str:
        """Name for display."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the query-time settings; a single empty name if nothing is varied."""
        ...

    def start(self, queries: NDArray[np.float32]) -> None:
        """Set the queries (Q, D); called before any document is scored."""
        ...

    def score(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """Score documents (n, D): one (Q, n) array per setting, NOT_FOUND where a document is not returned."""
        ...

    def score_and_count(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """Do the same and count the documents for `measure_selectivity`; called once for every document."""
        ...

    def measure_selectivity(self) -> Selectivity | None:
        """Return the selectivity of an inverted index; None for systems that read one entry per scored document."""
        ...

    def estimate_bytes(self, documents: int) -> int:
        """Return the index size in bytes for this number of documents, without ids."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a graph found at one setting.

    Attributes:
        numbers: document numbers, int64 (Q, k), best first, −1 where there are no more.
        compared: documents compared with a query, averaged over the queries.
    """

    numbers: NDArray[np.int64]
    compared: float


class GraphSystem(Protocol):
    """A system that has to hold all documents before it can answer queries."""

    @property
    def name(self) -> str:
        """Name for display."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the query-time settings."""
        ...

    def add(self, block: NDArray[np.float32]) -> None:
        """Add documents (n, D)."""
        ...

    def search(self, queries: NDArray[np.float32]) -> Sequence[Answers]:
        """Answer queries (Q, D) at each setting."""
        ...

    def estimate_bytes(self, documents: int) -> int:
        """Return the index size in bytes for this number of documents."""
        ...
