"""What encoders over pivots have in common: their pivots, how many a document and a query take, and finding these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.encoders.inputs import check_features
from deepterms.encoders.pivots.nearest import NearestPivots, Search, select_search
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import InvalidInput
from deepterms.terms import MAX_TERM_FREQUENCY, TermFrequencies

__all__ = ["PivotEncoder"]

# Candidates to re-rank: at 200,000 documents R@10 was .977 with 200, .990 with 500 and .999 with 1,000.
DEFAULT_RERANK = 500


@dataclass(frozen=True)
class PivotEncoder(ABC):
    """An encoder whose codewords are made of the pivots nearest to a descriptor.

    Args:
        pivots: the reference descriptors.
        top_k: K, how many of them a document takes.
        query_top_k: how many a query takes.
        search: how they are found, see `PivotPermutation`.

    Raises:
        InvalidInput: a K is too small, or more than the pivots or 65,535; or an unknown search.
    """

    pivots: Pivots
    top_k: int
    query_top_k: int
    search: Search | Literal["auto"] = "auto"
    _nearest: NearestPivots = field(init=False, repr=False, compare=False)

    _fewest: ClassVar[int] = 1  # pivots of a document or a query

    def __post_init__(self) -> None:
        largest = min(len(self.pivots), MAX_TERM_FREQUENCY)
        for name, count in (("top_k", self.top_k), ("query_top_k", self.query_top_k)):
            if not self._fewest <= count <= largest:
                raise InvalidInput(
                    f"{name} is {count}; expected {self._fewest} to {largest} for {len(self.pivots)} pivots"
                )
        search = select_search(self.search, self.pivots)
        object.__setattr__(self, "search", search)
        object.__setattr__(self, "_nearest", NearestPivots(self.pivots, search))

    @property
    def dimensions(self) -> int:
        """D, the length of a descriptor."""
        return self.pivots.dimensions

    @property
    def default_rerank(self) -> int:
        """How many candidates are worth re-ranking: short documents rank more coarsely than long ones."""
        return DEFAULT_RERANK

    @property
    @abstractmethod
    def words_per_query(self) -> int:
        """How many codewords a query names."""

    @abstractmethod
    def encode_wider_queries(self, features: ArrayLike, *, words_per_query: int) -> TermFrequencies:
        """Name more codewords, or fewer, than queries usually do, as a narrow filter needs.

        Args:
            features: float32 (N, D).
            words_per_query: how many at most.

        Returns:
            Term frequencies (N, V).

        Raises:
            InvalidInput: as `encode_queries`.
        """

    def encode_queries(self, features: ArrayLike) -> TermFrequencies:
        """Name and weigh the nearest pivots of queries.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), `words_per_query` a row; weights by nearness are from 1 to 1,000.

        Raises:
            InvalidInput: wrong shape, or a row that is not finite or all zero.
        """
        return self.encode_wider_queries(features, words_per_query=self.words_per_query)

    def _near(self, features: ArrayLike, count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The nearest pivots (N, count) of any features, and how near, as `NearestPivots`."""
        return self._nearest.nearest(check_features(features, dimensions=self.dimensions), count)

    def _spec(self, type: str) -> dict[str, Any]:
        """What every spec says."""
        return {
            "type": type,
            "pivots": self.pivots.spec(),
            "top_k": self.top_k,
            "query_top_k": self.query_top_k,
            "search": self.search,
        }
