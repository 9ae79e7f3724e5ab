"""Base of the encoders over pivots: it finds the nearest pivots of a descriptor, for documents and for queries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features
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
    """An encoder that builds codewords from the pivots nearest to a descriptor.

    Args:
        pivots: the reference descriptors.
        top_k: K, the number of pivots per document.
        query_top_k: the number of pivots per query.
        search: how the nearest pivots are found; see `PivotPermutation`.

    Raises:
        InvalidInput: `top_k` or `query_top_k` is too small, or exceeds the number of pivots or 65,535; or `search` is
            unknown.
    """

    pivots: Pivots
    top_k: int
    query_top_k: int
    search: Search | Literal["auto"] = "auto"
    _nearest: NearestPivots = field(init=False, repr=False, compare=False)

    _min_top_k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        largest = min(len(self.pivots), MAX_TERM_FREQUENCY)
        for name, count in (("top_k", self.top_k), ("query_top_k", self.query_top_k)):
            if not self._min_top_k <= count <= largest:
                raise InvalidInput(
                    f"{name} is {count}; expected {self._min_top_k} to {largest} for {len(self.pivots)} pivots"
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
        """The number of candidates worth re-ranking: more than for other encoders, as short documents rank coarsely."""
        return DEFAULT_RERANK

    @property
    @abstractmethod
    def words_per_query(self) -> int:
        """The number of codewords in a query."""

    @abstractmethod
    def encode_wider_queries(self, features: Features, *, words_per_query: int) -> TermFrequencies:
        """Encode queries with more or fewer codewords than usual. A narrow filter needs more.

        Args:
            features: float32 (N, D).
            words_per_query: the largest number of codewords per query.

        Returns:
            Term frequencies (N, V).

        Raises:
            InvalidInput: as for `encode_queries`.
        """

    def encode_queries(self, features: Features) -> TermFrequencies:
        """Encode queries as their nearest pivots, weighted.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), `words_per_query` per row; weights by nearness range from 1 to 1,000.

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        return self.encode_wider_queries(features, words_per_query=self.words_per_query)

    def _find_nearest(self, features: Features, count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Check features and find their nearest pivots; returns what `NearestPivots.find` does."""
        return self._nearest.find(check_features(features, dimensions=self.dimensions), count)

    def _build_spec(self, type: str) -> dict[str, Any]:
        """Build the members that all pivot encoders' specs share."""
        return {
            "type": type,
            "pivots": self.pivots.spec(),
            "top_k": self.top_k,
            "query_top_k": self.query_top_k,
            "search": self.search,
        }
