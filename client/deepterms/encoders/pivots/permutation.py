"""Pivot permutations: from a descriptor to the names of pivots near it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.arrays import Features
from deepterms.encoders.inputs import check_features
from deepterms.encoders.pivots.encoder import PivotEncoder
from deepterms.encoders.pivots.weights import measure_closeness, scale_weights
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["PivotPermutation", "PivotWeights", "Spill"]

DEFAULT_TOP_K = 8
DEFAULT_QUERY_TOP_K = 32
# The power of the closeness that becomes a weight. With the first power, a document that shares several far pivots with
# a query ranks above one that shares a near pivot. R@10 of 100,000 mixtures, with 64 words and 500 candidates, was .945
# with the first power, .970 with the second and .973 with the third; with pivots other than centroids .942, .947 and
# .945.
WEIGHT_POWER = 2

PivotWeights: TypeAlias = Literal["binary", "ranks"]
"""What a document records of its nearest pivots: only their names, or their order as well."""

Spill: TypeAlias = Literal["nearest", "soar"]
"""Which pivots a document names: those nearest to it, or near ones that miss it in different directions (SOAR)."""


@dataclass(frozen=True)
class PivotPermutation(PivotEncoder):
    """Encode a descriptor as the names of its nearest pivots: few words per document, more per query.

    Descriptors that are near the same pivots are near each other: references [3] and [7] of the paper (Amato, Gennaro,
    Savino, "MI-File", 2014). Ties between pivots go to the lower number.

    With the spill ``soar``, a document's first word is its nearest pivot, and each further one, out of the 32 nearest,
    is near and has a residual at an angle to those of the words before it. A neighbour whose pivots do not include one
    of them is then likelier to have another (`spill_pivots` has the formula; Sun et al., "SOAR: Improved Indexing for
    Approximate Nearest Neighbor Search", NeurIPS 2023). With 32 words or more, they are the nearest. Queries always
    name their nearest pivots.

    With ``binary`` weights, each word of a document occurs once, and a query weighs its pivots by closeness: 1,000 for
    the nearest, the others in proportion to the square of their cosine, at least 1. For the metric ``l2``, the squared
    measure is 1 − d²/(2·r²), where r is the distance to the farthest pivot of the query: from ½ to 1, independent of
    the scale of the descriptors, and of the same form as the cosine, which is 1 − d²/2 on the unit sphere.

    With ``ranks``, the nearest pivot of a document or query occurs K times, the next K − 1 times and so on: the dot
    product ranks documents as Spearman's rho between truncated permutations does (see `deepterms.permutations`). With
    ``search="exact"`` and `top_k` = `query_top_k`, these are the permutations of the MI-File, truncated, or whole if K
    is the number of pivots.

    Args:
        pivots: the reference descriptors; pivot p is codeword ``t{p}``.
        top_k: K, the number of pivots per document.
        query_top_k: the number of pivots per query.
        weights: ``binary`` or ``ranks``.
        search: how the nearest pivots are found. ``exact`` compares all of them. ``projected`` first compares them in
            few dimensions, which misses few and is many times faster, especially with the extra ``pivots``. ``auto`` is
            ``exact`` up to 1,024 pivots and ``projected`` above; the attribute and the spec hold the resolved value.
        spill: ``nearest`` or ``soar``; ``auto`` is ``soar`` with binary weights and ``nearest`` with ranks, and the
            attribute holds the resolved value. A spec without it means ``nearest``.

    Raises:
        InvalidInput: K is not from 1 to the number of pivots (at most 65,535); weights, search or spill are unknown; or
            the spill is ``soar`` with ranks.
    """

    top_k: int = DEFAULT_TOP_K
    query_top_k: int = DEFAULT_QUERY_TOP_K
    weights: PivotWeights = "binary"
    spill: Spill | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights not in get_args(PivotWeights):
            raise InvalidInput(f"weights is {self.weights!r}; expected one of {', '.join(get_args(PivotWeights))}")
        if self.spill not in ("auto", *get_args(Spill)):
            raise InvalidInput(f"spill is {self.spill!r}; expected one of auto, {', '.join(get_args(Spill))}")
        if self.spill == "auto":
            object.__setattr__(self, "spill", "nearest" if self.weights == "ranks" else "soar")
        elif self.spill == "soar" and self.weights == "ranks":
            raise InvalidInput(
                "spill is 'soar' and weights is 'ranks', which are those of the nearest pivots; use spill='nearest' "
                "or weights='binary'"
            )

    def __str__(self) -> str:
        counts = f"k{self.top_k}/q{self.query_top_k}"
        spill = "/soar" if self.spill == "soar" else ""
        return f"pivot-permutation/{self.pivots.label}/{counts}/{self.weights}/{self.search}{spill}"

    @property
    def vocabulary_size(self) -> int:
        """V, the number of pivots."""
        return len(self.pivots)

    @property
    def words_per_document(self) -> int:
        """K, the number of pivots per document."""
        return self.top_k

    @property
    def words_per_query(self) -> int:
        """The number of pivots per query."""
        return self.query_top_k

    @property
    def max_term_frequency(self) -> int:
        """1, or K with ranks."""
        return self.top_k if self.weights == "ranks" else 1

    @property
    def max_words(self) -> int:
        """K, or K + (K − 1) + … + 1 with ranks."""
        return self.top_k * (self.top_k + 1) // 2 if self.weights == "ranks" else self.top_k

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder, given its pivots."""
        # Specs stored before there was a choice lack the member, and an index's spec must equal its encoder's.
        spill = {"spill": "soar"} if self.spill == "soar" else {}
        return self._build_spec("pivot_permutation") | {"weights": self.weights} | spill

    def encode(self, features: Features) -> TermFrequencies:
        """Encode documents as their nearest pivots, or those that `spill` chooses.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), K per row.

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        if self.spill == "soar":
            numbers = self._nearest.spill(check_features(features, dimensions=self.dimensions), self.top_k)
        else:
            numbers, _ = self._find_nearest(features, self.top_k)
        weights = np.broadcast_to(_count_down(self.top_k) if self.weights == "ranks" else np.int32(1), numbers.shape)
        return self._build_terms(numbers, weights)

    def encode_wider_queries(self, features: Features, *, words_per_query: int) -> TermFrequencies:
        """Encode queries with more or fewer pivots than usual. A narrow filter needs more.

        Args:
            features: float32 (N, D).
            words_per_query: the number of pivots per query, 1 to P.

        Raises:
            InvalidInput: as for `encode_queries`, or `words_per_query` is out of range.
        """
        if not 1 <= words_per_query <= len(self.pivots):
            raise InvalidInput(
                f"words_per_query is {words_per_query}; expected 1 to {len(self.pivots)}, the number of pivots"
            )
        numbers, nearness = self._find_nearest(features, words_per_query)
        if self.weights == "ranks":
            return self._build_terms(numbers, np.broadcast_to(_count_down(words_per_query), numbers.shape))
        closeness = np.maximum(measure_closeness(nearness, self.pivots.metric), 0)
        return self._build_terms(numbers, scale_weights(closeness**WEIGHT_POWER))

    def _build_terms(self, numbers: NDArray[np.int32], weights: NDArray[np.int32]) -> TermFrequencies:
        """Build term frequencies (N, V) from pivots (N, k) and their weights (N, k)."""
        N, k = numbers.shape
        order = np.argsort(numbers, axis=1)
        rows = np.arange(N)[:, np.newaxis]
        indices, frequencies = numbers[rows, order].ravel(), weights[rows, order].ravel()
        indptr = np.arange(0, N * k + 1, k, dtype=np.int32 if N * k < 2**31 else np.int64)
        matrix = sparse.csr_array((frequencies, indices, indptr), shape=(N, self.vocabulary_size))
        matrix.has_canonical_format = True  # sorted, without duplicates
        return TermFrequencies(matrix)


def _count_down(k: int) -> NDArray[np.int32]:
    """Return k, k − 1, …, 1."""
    return np.arange(k, 0, -1, dtype=np.int32)
