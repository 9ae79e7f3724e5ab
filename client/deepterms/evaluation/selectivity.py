"""How much of a collection queries read: AFDA as the paper prints it and as its figure has it, and postings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["ListLengths", "Selectivity"]


@dataclass(frozen=True)
class Selectivity:
    """What queries read of an inverted index of N documents over V codewords.

    d_i is the share of documents that have codeword i.

    Attributes:
        afda_sum: Σ d_i², as the paper prints it: the postings that a query like the documents reads, divided by N. It
            may exceed 1, so it is no fraction.
        afda_mean: Σ d_i² / V, which alone fits the axis of the paper's Figure 1.
        postings_per_query: measured: entries in the lists of a query's codewords, mean over the queries.
    """

    afda_sum: float
    afda_mean: float
    postings_per_query: float


class ListLengths:
    """Counts how many documents have each codeword, while the documents stream by.

    Args:
        vocabulary_size: V.
    """

    def __init__(self, vocabulary_size: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(vocabulary_size, dtype=np.int64)  # (V,)
        self.documents = 0

    def add(self, terms: TermFrequencies) -> None:
        """Count documents (n, V)."""
        self.lengths += np.bincount(terms.matrix.indices, minlength=len(self.lengths))
        self.documents += len(terms)

    def selectivity(self, queries: TermFrequencies) -> Selectivity:
        """What queries (Q, V) read of the documents so far.

        Raises:
            InvalidInput: there are no documents or no queries.
        """
        if not self.documents or not len(queries):
            raise InvalidInput(f"{self.documents} documents and {len(queries)} queries; expected one of each at least")
        shares = self.lengths / self.documents
        afda_sum = float((shares**2).sum())
        read = int(self.lengths[queries.matrix.indices].sum())
        return Selectivity(afda_sum, afda_sum / len(shares), read / len(queries))
