"""Pivot pairs: a descriptor becomes the pairs of its nearest pivots, so that few pivots give many codewords."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.encoders.pairs import build_pair_terms, count_pairs, list_rank_pairs, number_pairs
from deepterms.encoders.pivots.encoder import PivotEncoder
from deepterms.encoders.pivots.weights import measure_closeness, scale_weights
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["PivotPairs"]

DEFAULT_TOP_K = 4
DEFAULT_QUERY_TOP_K = 12
MAX_COUNT = 65_536  # pivots whose pairs can be numbered within int32


@dataclass(frozen=True)
class PivotPairs(PivotEncoder):
    """Every unordered pair of a descriptor's nearest pivots is one word.

    P pivots give P·(P − 1)/2 codewords: lists are as short as those of many more pivots, which need not be compared
    with each descriptor. Every frequency of a document is 1; a query weighs a pair by the sum of how near both are, by
    the measures of `PivotPermutation`, not squared: 1,000 for the nearest two, the others in proportion, at least 1.
    The pair of pivots a < b is the codeword b·(b − 1)/2 + a.

    Args:
        pivots: the reference descriptors, 2 to 65,536.
        top_k: of how many nearest pivots a document names all pairs: 4 have 6.
        query_top_k: of how many a query does: 12 have 66.
        search: as in `PivotPermutation`.

    Raises:
        InvalidInput: too many or too few pivots, or a K that is not from 2 to their number.
    """

    top_k: int = DEFAULT_TOP_K
    query_top_k: int = DEFAULT_QUERY_TOP_K

    _fewest: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 2 <= len(self.pivots) <= MAX_COUNT:
            raise InvalidInput(
                f"pairs are made of 2 to {MAX_COUNT:,} pivots; got {len(self.pivots):,}. So many pivots need no "
                "pairs: take PivotPermutation"
            )
        super().__post_init__()

    def __str__(self) -> str:
        return f"pivot-pairs/{self.pivots.label}/k{self.top_k}/q{self.query_top_k}/{self.search}"

    @property
    def vocabulary_size(self) -> int:
        """V, the number of pairs of pivots."""
        return count_pairs(len(self.pivots))

    @property
    def words_per_document(self) -> int:
        """The pairs of K pivots."""
        return count_pairs(self.top_k)

    @property
    def words_per_query(self) -> int:
        """The pairs of a query's pivots."""
        return count_pairs(self.query_top_k)

    @property
    def max_term_frequency(self) -> int:
        """1."""
        return 1

    @property
    def max_words(self) -> int:
        """Each of `words_per_document` once."""
        return self.words_per_document

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder, given its pivots."""
        return self._spec("pivot_pairs")

    def encode(self, features: ArrayLike) -> TermFrequencies:
        """Name the pairs of documents' nearest pivots.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), all 1.

        Raises:
            InvalidInput: wrong shape, or a row that is not finite or all zero.
        """
        numbers, _ = self._pairs(features, self.top_k)
        return build_pair_terms(numbers, np.ones(numbers.shape, dtype=np.int32), vocabulary_size=self.vocabulary_size)

    def encode_wider_queries(self, features: ArrayLike, *, words_per_query: int) -> TermFrequencies:
        """`encode_queries` with the pairs of more or fewer pivots, as a search behind a narrow filter needs.

        Args:
            features: float32 (N, D).
            words_per_query: how many pairs these queries name at most, 1 to V: those of as many pivots as have no more.

        Raises:
            InvalidInput: as `encode_queries`, or a number out of range.
        """
        if not 1 <= words_per_query <= self.vocabulary_size:
            raise InvalidInput(
                f"words_per_query is {words_per_query}; expected 1 to {self.vocabulary_size}, the pairs of all"
            )
        numbers, sums = self._pairs(features, (1 + math.isqrt(1 + 8 * words_per_query)) // 2)
        return build_pair_terms(numbers, scale_weights(sums), vocabulary_size=self.vocabulary_size)

    def _pairs(self, features: ArrayLike, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pairs of the nearest pivots, the nearest two first, and the sums of how near they are: (N, pairs) each."""
        nearest, nearness = self._near(features, count)
        near, pivots = measure_closeness(nearness, self.pivots.metric), nearest.astype(np.int64)
        first, second = list_rank_pairs(count)
        return number_pairs(pivots[:, first], pivots[:, second]), near[:, first] + near[:, second]
