"""Deep permutations: from a descriptor to the ranking of its own largest components (Section 3 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.arrays import Features
from deepterms.encoders.blocks import map_blocks
from deepterms.encoders.inputs import check_features
from deepterms.errors import InvalidInput
from deepterms.terms import MAX_TERM_FREQUENCY, TermFrequencies

__all__ = ["DEFAULT_TOP_K", "DeepPermutation"]

DEFAULT_TOP_K = 100  # a point of the paper's Figure 1 and Table 1

# Bytes of sort keys per block and thread: memory stays bounded, and a block stays in the CPU cache.
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class DeepPermutation:
    """Rank the K largest components of a descriptor: the largest occurs K times, the next K−1 times, and so on.

    With CReLU, component i of [x]+ is codeword ``t{i}`` and component i of [−x]+ is ``t{D+i}`` (Section 3.2: 2·D
    codewords). Two rules make every implementation agree bit for bit: components are ordered by value, descending, then
    by number, ascending; and a component that is zero after CReLU gets no codeword, so there may be fewer than K.

    Args:
        dimensions: D, the length of a descriptor.
        top_k: K, the number of components to keep.
        crelu: apply CReLU first. Without it, all components are ranked as they are, including negative ones.
        binary: record only which components are the K largest, not their order: every frequency is 1.

    Raises:
        InvalidInput: a size is not positive, or K exceeds D or 65,535.
    """

    dimensions: int
    top_k: int = DEFAULT_TOP_K
    crelu: bool = True
    binary: bool = False

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise InvalidInput(f"dimensions is {self.dimensions}; expected at least 1")
        # CReLU leaves at most one of a component's two halves above zero, so D components can be ranked, not 2·D.
        largest = min(self.dimensions, MAX_TERM_FREQUENCY)
        if not 1 <= self.top_k <= largest:
            raise InvalidInput(
                f"top_k is {self.top_k}; expected 1 to {largest} for descriptors of {self.dimensions} dimensions"
            )

    def __str__(self) -> str:
        crelu, binary = "/crelu" if self.crelu else "", "/binary" if self.binary else ""
        return f"deep-permutation/d{self.dimensions}{crelu}/k{self.top_k}{binary}"

    @property
    def vocabulary_size(self) -> int:
        """V: 2·D with CReLU, D without."""
        return 2 * self.dimensions if self.crelu else self.dimensions

    @property
    def max_term_frequency(self) -> int:
        """K; 1 if binary."""
        return 1 if self.binary else self.top_k

    @property
    def max_words(self) -> int:
        """K + (K − 1) + … + 1; K if binary."""
        return self.top_k if self.binary else self.top_k * (self.top_k + 1) // 2

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder."""
        return {
            "type": "deep_permutation",
            "dimensions": self.dimensions,
            "top_k": self.top_k,
            "crelu": self.crelu,
            "binary": self.binary,
        }

    def encode(self, features: Features) -> TermFrequencies:
        """Rank the components of documents.

        Args:
            features: float32 (N, D); other numbers are converted to float32 first. They need not be normalised, as only
                the order of the components matters.

        Returns:
            Term frequencies (N, V), at most K per row; the largest component of a row has frequency K (1 if binary).

        Raises:
            InvalidInput: the shape is wrong, or a row is not finite or all zero.
        """
        array = check_features(features, dimensions=self.dimensions)
        rows_per_block = max(1, BLOCK_BYTES // (8 * self.dimensions))
        blocks = [array[start : start + rows_per_block] for start in range(0, len(array), rows_per_block)]
        if not blocks:
            return TermFrequencies(sparse.csr_array((0, self.vocabulary_size), dtype=np.int32))
        ranked = map_blocks(self._rank_block, blocks)
        lengths = np.concatenate([length for _, _, length in ranked])
        indptr = np.zeros(len(array) + 1, dtype=np.int64 if lengths.sum(dtype=np.int64) > 2**31 - 1 else np.int32)
        np.cumsum(lengths, out=indptr[1:])
        matrix = sparse.csr_array(
            (
                np.concatenate([frequencies for _, frequencies, _ in ranked]),
                np.concatenate([components for components, _, _ in ranked]),
                indptr,
            ),
            shape=(len(array), self.vocabulary_size),
        )
        matrix.has_canonical_format = True  # sorted, without duplicates
        return TermFrequencies(matrix)

    def encode_queries(self, features: Features) -> TermFrequencies:
        """Encode queries, which is the same as `encode`."""
        return self.encode(features)

    def _rank_block(self, block: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.intp]]:
        """Rank a block (n, D).

        Returns:
            Components and frequencies of all rows, concatenated, sorted by row and component; and each row's length.
        """
        # One integer key holds the value and the tie rule: order-preserving bits of the float in the high half, the
        # complement of the component in the low half. All keys of a row differ, so even an unstable selection has one
        # result; and numpy selects values, unlike positions, with vector instructions.
        D, K = self.dimensions, self.top_k
        component: NDArray[np.uint64] = np.arange(D, dtype=np.uint64)
        if self.crelu:
            component = component + np.uint64(D) * (block < 0)  # (n, D)
            bits = np.abs(block).view(np.uint32).astype(np.uint64)  # non-negative floats sort like their bits
        else:
            signed = (block + np.float32(0)).view(np.uint32)  # −0 + 0 = +0
            bits = np.where(signed >> 31, ~signed, signed | np.uint32(2**31)).astype(np.uint64)
        keys = (bits << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - component)  # (n, D)
        keys.partition(D - K, axis=1)
        top = np.sort(keys[:, D - K :], axis=1)  # (n, K), largest last
        frequency = np.ones(K, dtype=np.uint64) if self.binary else np.arange(1, K + 1, dtype=np.uint64)
        # CSR needs rows sorted by component; the frequency travels in the low bits.
        packed = ((np.uint64(0xFFFFFFFF) - (top & np.uint64(0xFFFFFFFF))) << np.uint64(32)) | frequency
        kept = (top >> np.uint64(32)) > 0  # no bits: zero after CReLU
        if kept.all():
            lengths = np.full(len(block), K, dtype=np.intp)
            packed.sort(axis=1)
            packed = packed.reshape(-1)
        else:
            packed[~kept] = np.iinfo(np.uint64).max
            packed.sort(axis=1)
            lengths = kept.sum(axis=1)
            packed = packed[np.arange(K) < lengths[:, np.newaxis]]
        return (packed >> np.uint64(32)).astype(np.int32), packed.astype(np.uint32).astype(np.int32), lengths
