"""What a system under comparison is: it scores documents block by block, or it takes them all and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.evaluation.selectivity import Selectivity

__all__ = ["Answers", "GraphSystem", "ScoringSystem"]


class ScoringSystem(Protocol):
    """A system whose score of a document depends on that document and the query alone, so nothing need be kept."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """What is varied at query time; one empty name where nothing is."""
        ...

    def start(self, queries: NDArray[np.float32]) -> None:
        """Take the queries (Q, D), before any document."""
        ...

    def scores(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """Scores (Q, n) of documents (n, D) at each setting, NOT_FOUND for those that it does not return."""
        ...

    def read(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """The same, and the documents count for `selectivity`; called once with every document."""
        ...

    def selectivity(self) -> Selectivity | None:
        """Of an inverted index; None for others, which read one entry for each document that they score."""
        ...

    def stored_bytes(self, documents: int) -> int:
        """What an index of so many documents takes, ids left out."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a graph found at one setting.

    Attributes:
        numbers: of documents, int64 (Q, k), best first, −1 where there are no more.
        compared: documents with which a query was compared, mean over the queries.
    """

    numbers: NDArray[np.int64]
    compared: float


class GraphSystem(Protocol):
    """A system that has to hold all documents before it can answer."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """What is varied at query time."""
        ...

    def add(self, block: NDArray[np.float32]) -> None:
        """Take documents (n, D)."""
        ...

    def search(self, queries: NDArray[np.float32]) -> Sequence[Answers]:
        """Answer queries (Q, D) at each setting."""
        ...

    def stored_bytes(self, documents: int) -> int:
        """What an index of so many documents takes."""
        ...
