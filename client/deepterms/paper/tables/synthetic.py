"""Collection: any number of synthetic descriptors as term frequencies at several K, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["CHUNK", "Collection", "truncated"]

CHUNK = 16_384  # documents made at once: 134 MB of 2,048 components
CENTRES = 1_000
_QUERIES = 2**32  # the chunk number of the queries, which no document's chunk has


@dataclass(frozen=True)
class Collection:
    """Documents and queries; the same ones for the same numbers, and more of them begin alike.

    A descriptor is one of 1,000 random centres plus noise as large as itself, every component normal. A query then
    reads 1.00 to 1.01 times the K²/V postings a document of evenly spread codewords; descriptors of crops of
    photographs, whitened, read 0.93 to 0.97 times as many (1,280 dimensions, K = 42, 100 and 200).

    Attributes:
        documents: N.
        dimensions: D; the codewords are 2·D, by CReLU.
        top_ks: the K, each of which is encoded.
        seed: of all that is random.

    Raises:
        InvalidInput: a number is out of range.
    """

    documents: int
    dimensions: int = 2_048
    top_ks: tuple[int, ...] = (42, 48, 70, 100, 400)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.documents < 1 or not self.top_ks or self.seed < 0:
            raise InvalidInput(
                f"{self.documents} documents, top_ks {self.top_ks}, seed {self.seed}; expected at least one of each, "
                "and a seed of 0 or more"
            )
        for top_k in self.top_ks:
            self.encoder(top_k)

    def encoder(self, top_k: int) -> DeepPermutation:
        """The deep permutation of that K."""
        return DeepPermutation(self.dimensions, top_k=top_k)

    def chunks(self) -> Iterator[tuple[int, dict[int, TermFrequencies]]]:
        """(number of the first document, K → term frequencies (n, V)) of up to `CHUNK` documents at a time."""
        for chunk, start in enumerate(range(0, self.documents, CHUNK)):
            yield start, self._encoded(self._descriptors(chunk, min(CHUNK, self.documents - start)))

    def queries(self, count: int) -> dict[int, TermFrequencies]:
        """K → term frequencies (count, V) of descriptors of the same kind, none of them a document's."""
        return self._encoded(self._descriptors(_QUERIES, count))

    def _descriptors(self, chunk: int, count: int) -> NDArray[np.float32]:
        """Float32 (count, D)."""
        centres = np.random.default_rng([self.seed]).standard_normal((CENTRES, self.dimensions), dtype=np.float32)
        rng = np.random.default_rng([self.seed, chunk])
        rows = centres[rng.integers(0, CENTRES, CHUNK)[:count]]
        rows += rng.standard_normal((count, self.dimensions), dtype=np.float32)
        return rows

    def _encoded(self, descriptors: NDArray[np.float32]) -> dict[int, TermFrequencies]:
        longest = max(self.top_ks)
        terms = self.encoder(longest).encode(descriptors)
        return {top_k: truncated(terms, longest, top_k) for top_k in self.top_ks}


def truncated(terms: TermFrequencies, longest: int, top_k: int) -> TermFrequencies:
    """What a deep permutation of a smaller K makes of the same descriptors: K' of the ranks, each lower by K − K'.

    Args:
        terms: (N, V), by a deep permutation of K = `longest`.
        longest: K.
        top_k: K', at most K.
    """
    matrix, dropped = terms.matrix, longest - top_k
    kept = matrix.data > dropped
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    shorter = sparse.csr_array(
        (matrix.data[kept] - np.int32(dropped), matrix.indices[kept], before[matrix.indptr].astype(np.int32)),
        shape=matrix.shape,
    )
    shorter.has_canonical_format = True  # as the one it was cut from
    return TermFrequencies(shorter)
