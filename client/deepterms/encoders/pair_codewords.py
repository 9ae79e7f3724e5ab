"""Pair codewords: from a descriptor to the pairs of its largest components, under several random rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features
from deepterms.encoders.blocks import map_blocks
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.inputs import check_features
from deepterms.encoders.pairs import build_pair_terms, count_pairs, list_rank_pairs, number_pairs
from deepterms.encoders.rotation import MAX_SEED, draw_signs, rotate, round_up_to_power_of_two
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["PairCodewords"]

DEFAULT_ROTATIONS = 4
DEFAULT_RANK_SUM = 28
# Codewords must fit into int32, the index type of the sparse matrices.
MAX_VOCABULARY = 2**31 - 1
# Bytes of rotated descriptors per block: it stays in the CPU cache through all steps of a rotation.
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class PairCodewords:
    """Encode which components are large *together*: each unordered pair of the largest components is one word.

    A pair is far rarer than a single component, so posting lists are short: many words per document, few postings per
    query. A descriptor is rotated several times. Each rotation is ranked as by `DeepPermutation` with CReLU, and the
    pairs whose ranks (from 1) sum to at most `rank_sum` become words: 182 for a sum of 28, from the 27 largest
    components. Every frequency is 1. There is nothing to learn, and no pivots are needed.

    Rotations are those of `deepterms.encoders.rotation`, into D′ dimensions: all machines agree bit for bit. The pair
    of components a < b < 2·D′ is codeword b·(b − 1)/2 + a of its rotation. The numbering is exact; nothing is hashed.

    Args:
        dimensions: D, the length of a descriptor.
        rotations: R, the number of rotations.
        rank_sum: the largest sum of ranks of a document's pairs.
        query_rank_sum: the largest sum of ranks of a query's pairs; default: `rank_sum`. A smaller one is faster and
            lowers recall.
        seed: seed of the random signs.

    Raises:
        InvalidInput: a size is out of range, or there are more than 2^31 − 1 codewords.
    """

    dimensions: int
    rotations: int = DEFAULT_ROTATIONS
    rank_sum: int = DEFAULT_RANK_SUM
    query_rank_sum: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.query_rank_sum is None:
            object.__setattr__(self, "query_rank_sum", self.rank_sum)
        for name, value, least in (("dimensions", self.dimensions, 2), ("rotations", self.rotations, 1)):
            if value < least:
                raise InvalidInput(f"{name} is {value}; expected at least {least}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"seed is {self.seed}; expected 0 to 2^63 − 1")
        for name, value in (("rank_sum", self.rank_sum), ("query_rank_sum", self._query_sum)):
            if not 3 <= value <= self.rotated_dimensions + 1:
                raise InvalidInput(
                    f"{name} is {value}; expected 3 (only the first pair) to {self.rotated_dimensions + 1} for "
                    f"{self.rotated_dimensions} rotated components"
                )
        if self.vocabulary_size > MAX_VOCABULARY:
            most = MAX_VOCABULARY // count_pairs(2 * self.rotated_dimensions)
            advice = f"use at most {most} rotations" if most else "reduce the descriptors first, for example by PCA"
            raise InvalidInput(
                f"{self.rotations} rotations of {self.dimensions} dimensions need {self.vocabulary_size:,} codewords; "
                f"the maximum is {MAX_VOCABULARY:,}; {advice}"
            )

    def __str__(self) -> str:
        return (
            f"pair-codewords/d{self.dimensions}/r{self.rotations}/s{self.rank_sum}/q{self._query_sum}/seed{self.seed}"
        )

    @property
    def _query_sum(self) -> int:
        return self.rank_sum if self.query_rank_sum is None else self.query_rank_sum

    @property
    def rotated_dimensions(self) -> int:
        """D′, the smallest power of two that is at least D."""
        return round_up_to_power_of_two(self.dimensions)

    @property
    def vocabulary_size(self) -> int:
        """V: the pairs of 2·D′ components, for each rotation."""
        return self.rotations * count_pairs(2 * self.rotated_dimensions)

    @property
    def max_term_frequency(self) -> int:
        """Always 1."""
        return 1

    @property
    def max_words(self) -> int:
        """Equal to `words_per_document`, as each word occurs once."""
        return self.words_per_document

    @property
    def words_per_document(self) -> int:
        """The number of pairs whose ranks sum to at most `rank_sum`, over all rotations."""
        return self.rotations * len(list_rank_pairs(self.rank_sum - 1, rank_sum=self.rank_sum)[0])

    @property
    def words_per_query(self) -> int:
        """The number of pairs whose ranks sum to at most `query_rank_sum`, over all rotations."""
        return self.rotations * len(list_rank_pairs(self._query_sum - 1, rank_sum=self._query_sum)[0])

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder."""
        return {
            "type": "pair_codewords",
            "dimensions": self.dimensions,
            "rotations": self.rotations,
            "rank_sum": self.rank_sum,
            "query_rank_sum": self._query_sum,
            "seed": self.seed,
        }

    def encode(self, features: Features) -> TermFrequencies:
        """Encode documents as the pairs of their largest components.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first.

        Returns:
            Term frequencies (N, V), all 1. A row with many zero components has fewer words.

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        return self._encode(features, self.rank_sum)

    def encode_queries(self, features: Features) -> TermFrequencies:
        """Encode queries, with pairs up to `query_rank_sum`."""
        return self._encode(features, self._query_sum)

    def _encode(self, features: Features, rank_sum: int) -> TermFrequencies:
        array = check_features(features, dimensions=self.dimensions)
        left, right = list_rank_pairs(rank_sum - 1, rank_sum=rank_sum)
        signs = [self._draw_signs(rotation) for rotation in range(self.rotations)]

        def number_block(block: NDArray[np.float32]) -> NDArray[np.int64]:
            found = []
            for rotation in range(self.rotations):
                ranked = _rank_components(rotate(block, signs[rotation]), rank_sum - 1)
                first, second = ranked[:, left], ranked[:, right]  # (n, pairs)
                numbers = number_pairs(first, second) + rotation * count_pairs(2 * self.rotated_dimensions)
                numbers[np.minimum(first, second) < 0] = -1
                found.append(numbers)
            return np.concatenate(found, axis=1)

        rows = max(1, BLOCK_BYTES // (4 * self.rotated_dimensions))
        pieces = map_blocks(number_block, [array[start : start + rows] for start in range(0, len(array), rows)])
        numbers = np.concatenate([np.empty((0, self.rotations * len(left)), dtype=np.int64), *pieces])
        return build_pair_terms(numbers, np.ones(numbers.shape, dtype=np.int32), vocabulary_size=self.vocabulary_size)

    def _draw_signs(self, rotation: int) -> NDArray[np.float32]:
        """Draw the random signs of a rotation, float32 (D,)."""
        return draw_signs(f"deepterms pair codewords {self.seed} {rotation}", self.dimensions)


def _rank_components(block: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rank the largest components after CReLU: int64 (n, count), largest first; −1 where the rest is zero."""
    terms = DeepPermutation(block.shape[1], top_k=count).encode(block).matrix
    ranked = np.full((len(block), count), -1, dtype=np.int64)
    rows = np.repeat(np.arange(len(block)), np.diff(terms.indptr))
    ranked[rows, count - terms.data] = terms.indices
    return ranked
