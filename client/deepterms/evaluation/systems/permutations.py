"""Permutations of components: through the lists of an inverted index, and scanned one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.encoder import Encoder
from deepterms.evaluation.ranking import NOT_FOUND
from deepterms.evaluation.selectivity import ListLengths, Selectivity
from deepterms.terms import TermFrequencies

__all__ = ["InvertedPermutations", "PermutationScan"]

POSTING_BYTES = 4  # a document's number within a segment, and a term frequency, 16 bits each, as in MemoryIndex
RANK_BYTES = 2


class InvertedPermutations:
    """What the engine answers: the dot product of term frequencies, of documents that share a codeword with the query.

    Works for every encoder, not only for permutations.

    Args:
        encoder: of documents and queries.
        name: what to call it; the encoder's own name where not given.
        setting: where on a curve it stands, if on one.
    """

    def __init__(self, encoder: Encoder, *, name: str | None = None, setting: str = "") -> None:
        self.encoder = encoder
        self.name = str(encoder) if name is None else name
        self.settings = (setting,)
        self._lists = ListLengths(encoder.vocabulary_size)

    def start(self, queries: NDArray[np.float32]) -> None:
        """As of every system."""
        self._terms = self.encoder.encode_queries(queries)
        # float64: sums of products of ranks pass 2^24 from K = 369 on, where float32 is not exact any more.
        self._weights = self._terms.matrix.toarray().T.astype(np.float64)  # (V, Q)

    def scores(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        return [self._scores(self.encoder.encode(block))]

    def read(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        documents = self.encoder.encode(block)
        self._lists.add(documents)
        return [self._scores(documents)]

    def selectivity(self) -> Selectivity | None:
        """As of every system."""
        return self._lists.selectivity(self._terms)

    def stored_bytes(self, documents: int) -> int:
        """Of the postings."""
        postings = int(self._lists.lengths.sum())
        return round(POSTING_BYTES * postings * documents / max(1, self._lists.documents))

    def _scores(self, documents: TermFrequencies) -> NDArray[np.float64]:
        scores = self._products(documents)
        # Frequencies are 1 at least: a score of 0 says that no codeword is shared.
        return np.where(scores > 0, scores, NOT_FOUND)

    def _products(self, documents: TermFrequencies) -> NDArray[np.float64]:
        products: NDArray[np.float64] = (documents.matrix @ self._weights).T
        return np.ascontiguousarray(products)  # (Q, n)


class PermutationScan(InvertedPermutations):
    """The same permutations compared one after the other by Spearman's rho: every document is read, and returned.

    Args:
        encoder: of documents and queries; with K = D its permutations are full.
        name: what to call it.
    """

    def selectivity(self) -> None:
        """It reads no lists."""

    def stored_bytes(self, documents: int) -> int:
        """Of an inverted permutation, which has a rank for each codeword."""
        return RANK_BYTES * self.encoder.vocabulary_size * documents

    def _scores(self, documents: TermFrequencies) -> NDArray[np.float64]:
        return self._products(documents)
