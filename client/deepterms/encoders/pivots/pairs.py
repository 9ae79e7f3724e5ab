"""Pivot pairs: from a descriptor to the pairs of its nearest pivots, so that few pivots give many codewords."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features
from deepterms.encoders.pairs import build_pair_terms, count_pairs, list_rank_pairs, number_pairs
from deepterms.encoders.pivots.encoder import PivotEncoder
from deepterms.encoders.pivots.weights import measure_closeness, scale_weights
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["PivotPairs"]

DEFAULT_TOP_K = 4
DEFAULT_QUERY_TOP_K = 12
MAX_PIVOTS = 65_536  # the pairs of more do not fit into int32


@dataclass(frozen=True)
class PivotPairs(PivotEncoder):
    """Encode a descriptor as the unordered pairs of its nearest pivots.

    P pivots give P·(P − 1)/2 codewords: posting lists are as short as with many more pivots, without the cost of
    comparing each descriptor with them. Every frequency of a document is 1. A query weighs a pair by the sum of the
    closeness of both pivots, measured as in `PivotPermutation` but not squared: 1,000 for the nearest two, the others
    in proportion, at least 1. The pair of pivots a < b is codeword b·(b − 1)/2 + a.

    Args:
        pivots: the reference descriptors, 2 to 65,536.
        top_k: the number of nearest pivots that a document pairs; 4 give 6 pairs.
        query_top_k: the number of nearest pivots that a query pairs; 12 give 66 pairs.
        search: as for `PivotPermutation`.

    Raises:
        InvalidInput: there are too many or too few pivots, or a K is not from 2 to their number.
    """

    top_k: int = DEFAULT_TOP_K
    query_top_k: int = DEFAULT_QUERY_TOP_K

    _min_top_k: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 2 <= len(self.pivots) <= MAX_PIVOTS:
            raise InvalidInput(
                f"PivotPairs needs 2 to {MAX_PIVOTS:,} pivots; got {len(self.pivots):,}. Use PivotPermutation, which "
                "takes any number"
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
        """The number of pairs of K pivots."""
        return count_pairs(self.top_k)

    @property
    def words_per_query(self) -> int:
        """The number of pairs of a query's pivots."""
        return count_pairs(self.query_top_k)

    @property
    def max_term_frequency(self) -> int:
        """Always 1."""
        return 1

    @property
    def max_words(self) -> int:
        """Equal to `words_per_document`, as each word occurs once."""
        return self.words_per_document

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder, given its pivots."""
        return self._build_spec("pivot_pairs")

    def encode(self, features: Features) -> TermFrequencies:
        """Encode documents as the pairs of their nearest pivots.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), all 1.

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        numbers, _ = self._find_pairs(features, self.top_k)
        return build_pair_terms(numbers, np.ones(numbers.shape, dtype=np.int32), vocabulary_size=self.vocabulary_size)

    def encode_wider_queries(self, features: Features, *, words_per_query: int) -> TermFrequencies:
        """Encode queries as the pairs of more or fewer pivots than usual. A narrow filter needs more.

        Args:
            features: float32 (N, D).
            words_per_query: the largest number of pairs per query, 1 to V. The query pairs the largest number of pivots
                that does not exceed it.

        Raises:
            InvalidInput: as for `encode_queries`, or `words_per_query` is out of range.
        """
        if not 1 <= words_per_query <= self.vocabulary_size:
            raise InvalidInput(
                f"words_per_query is {words_per_query}; expected 1 to {self.vocabulary_size}, the number of all pairs"
            )
        numbers, sums = self._find_pairs(features, (1 + math.isqrt(1 + 8 * words_per_query)) // 2)
        return build_pair_terms(numbers, scale_weights(sums), vocabulary_size=self.vocabulary_size)

    def _find_pairs(self, features: Features, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the pairs of the nearest pivots, nearest two first, and the sums of their closeness: (N, pairs) each."""
        nearest, nearness = self._find_nearest(features, count)
        closeness, pivots = measure_closeness(nearness, self.pivots.metric), nearest.astype(np.int64)
        first, second = list_rank_pairs(count)
        return number_pairs(pivots[:, first], pivots[:, second]), closeness[:, first] + closeness[:, second]
