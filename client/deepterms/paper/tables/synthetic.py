"""Generate any number of synthetic descriptors and encode them at several K, one chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["CHUNK", "SyntheticCollection", "truncate"]

CHUNK = 16_384  # documents per chunk: 134 MB at 2,048 components
CENTRES = 1_000
_QUERIES = 2**32  # seeds the queries; larger than any chunk number of documents


@dataclass(frozen=True)
class SyntheticCollection:
    """Reproducible documents and queries; a smaller collection is a prefix of a larger one.

    A descriptor is one of 1,000 random centres plus noise of the same size, with normally distributed components. A
    query then reads 1.00 to 1.01 times the K²/V postings per document of evenly distributed codewords; whitened
    descriptors of photograph crops read 0.93 to 0.97 times as many (1,280 dimensions, K = 42, 100 and 200).

    Attributes:
        documents: N, the number of documents.
        dimensions: D, the descriptor length; with CReLU there are 2·D codewords.
        top_ks: values of K to encode.
        seed: for all random numbers.

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
                f"got {self.documents} documents, top_ks {self.top_ks} and seed {self.seed}; expected at least one "
                "document, at least one K, and a seed of 0 or more"
            )
        for top_k in self.top_ks:
            self.encoder(top_k)

    def encoder(self, top_k: int) -> DeepPermutation:
        """Return the deep permutation for this K."""
        return DeepPermutation(self.dimensions, top_k=top_k)

    def chunks(self) -> Iterator[tuple[int, dict[int, TermFrequencies]]]:
        """Iterate over up to `CHUNK` documents at a time as (first document number, K → term frequencies (n, V))."""
        for chunk, start in enumerate(range(0, self.documents, CHUNK)):
            yield start, self._encode(self._generate(chunk, min(CHUNK, self.documents - start)))

    def queries(self, count: int) -> dict[int, TermFrequencies]:
        """Generate queries as K → term frequencies (count, V); none of them equals a document."""
        return self._encode(self._generate(_QUERIES, count))

    def _generate(self, chunk: int, count: int) -> NDArray[np.float32]:
        """Generate descriptors: float32 (count, D)."""
        centres = np.random.default_rng([self.seed]).standard_normal((CENTRES, self.dimensions), dtype=np.float32)
        rng = np.random.default_rng([self.seed, chunk])
        rows = centres[rng.integers(0, CENTRES, CHUNK)[:count]]
        rows += rng.standard_normal((count, self.dimensions), dtype=np.float32)
        return rows

    def _encode(self, descriptors: NDArray[np.float32]) -> dict[int, TermFrequencies]:
        longest = max(self.top_ks)
        terms = self.encoder(longest).encode(descriptors)
        return {top_k: truncate(terms, longest, top_k) for top_k in self.top_ks}


def truncate(terms: TermFrequencies, longest: int, top_k: int) -> TermFrequencies:
    """Truncate terms to what a deep permutation with a smaller K gives: the top K' ranks, each lowered by K − K'.

    Args:
        terms: (N, V), encoded by a deep permutation with K = `longest`.
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
    shorter.has_canonical_format = True  # like the matrix it was truncated from
    return TermFrequencies(shorter)
