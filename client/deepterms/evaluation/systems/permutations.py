"""Score documents by encoded permutations, through the posting lists of an inverted index or by a full scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.encoder import Encoder
from deepterms.evaluation.ranking import NOT_FOUND
from deepterms.evaluation.selectivity import ListLengths, Selectivity
from deepterms.terms import TermFrequencies

__all__ = ["InvertedPermutations", "PermutationScan"]

POSTING_BYTES = 4  # 16 bits each for the document's number within a segment and the term frequency, as in MemoryIndex
RANK_BYTES = 2


class InvertedPermutations:
    """Scores documents as the engine does: the dot product of term frequencies.

    Only documents that share a codeword with the query are returned. Works with any encoder, not only permutations.

    Args:
        encoder: for documents and queries.
        name: for display; the encoder's own name by default.
        setting: name of the point on a curve, if it belongs to one.
    """

    def __init__(self, encoder: Encoder, *, name: str | None = None, setting: str = "") -> None:
        self.encoder = encoder
        self.name = str(encoder) if name is None else name
        self.settings = (setting,)
        self._lists = ListLengths(encoder.vocabulary_size)

    def start(self, queries: NDArray[np.float32]) -> None:
        """See `ScoringSystem.start`."""
        self._terms = self.encoder.encode_queries(queries)
        # float64: sums of products of ranks exceed 2^24 from K = 369 on, beyond which float32 is not exact.
        self._weights = self._terms.matrix.toarray().T.astype(np.float64)  # (V, Q)

    def score(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score`."""
        return [self._score(self.encoder.encode(block))]

    def score_and_count(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score_and_count`."""
        documents = self.encoder.encode(block)
        self._lists.add(documents)
        return [self._score(documents)]

    def measure_selectivity(self) -> Selectivity | None:
        """See `ScoringSystem.measure_selectivity`."""
        return self._lists.measure_selectivity(self._terms)

    def estimate_bytes(self, documents: int) -> int:
        """Return the size of the postings."""
        postings = int(self._lists.lengths.sum())
        return round(POSTING_BYTES * postings * documents / max(1, self._lists.documents))

    def _score(self, documents: TermFrequencies) -> NDArray[np.float64]:
        scores = self._multiply(documents)
        # Frequencies are at least 1, so a score of 0 means that no codeword is shared.
        return np.where(scores > 0, scores, NOT_FOUND)

    def _multiply(self, documents: TermFrequencies) -> NDArray[np.float64]:
        products: NDArray[np.float64] = (documents.matrix @ self._weights).T
        return np.ascontiguousarray(products)  # (Q, n)


class PermutationScan(InvertedPermutations):
    """Compares permutations one by one with Spearman's rho, so every document is read and returned.

    Args:
        encoder: for documents and queries; with K = D the permutations are complete.
        name: for display.
    """

    def measure_selectivity(self) -> None:
        """Return None: a scan reads no posting lists."""

    def estimate_bytes(self, documents: int) -> int:
        """Return the size of the inverted permutations, which store a rank per codeword."""
        return RANK_BYTES * self.encoder.vocabulary_size * documents

    def _score(self, documents: TermFrequencies) -> NDArray[np.float64]:
        return self._multiply(documents)
