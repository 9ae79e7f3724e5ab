"""Turn the term frequencies of documents and queries into the share of an index that a query reads (AFDA, postings)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = ["ListLengths", "Selectivity"]


@dataclass(frozen=True)
class Selectivity:
    """How much of an inverted index of N documents over V codewords the queries read.

    d_i is the share of documents that contain codeword i.

    Attributes:
        afda_sum: Σ d_i², the formula printed in the paper: the postings read by a query distributed like the documents,
            divided by N. It can exceed 1, so it is not a fraction.
        afda_mean: Σ d_i² / V, the only reading that fits the axis of the paper's Figure 1.
        postings_per_query: measured: postings in the lists of a query's codewords, averaged over the queries.
    """

    afda_sum: float
    afda_mean: float
    postings_per_query: float


class ListLengths:
    """Posting list lengths: how many documents contain each codeword, counted block by block.

    Args:
        vocabulary_size: V, the number of codewords.
    """

    def __init__(self, vocabulary_size: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(vocabulary_size, dtype=np.int64)  # (V,)
        self.documents = 0

    def add(self, terms: TermFrequencies) -> None:
        """Count the codewords of documents (n, V)."""
        self.lengths += np.bincount(terms.matrix.indices, minlength=len(self.lengths))
        self.documents += len(terms)

    def measure_selectivity(self, queries: TermFrequencies) -> Selectivity:
        """Compute how much queries (Q, V) read of the documents counted so far.

        Raises:
            InvalidInput: there are no documents or no queries.
        """
        if not self.documents or not len(queries):
            raise InvalidInput(
                f"got {self.documents} documents and {len(queries)} queries; expected at least 1 of each"
            )
        shares = self.lengths / self.documents
        afda_sum = float((shares**2).sum())
        read = int(self.lengths[queries.matrix.indices].sum())
        return Selectivity(afda_sum, afda_sum / len(shares), read / len(queries))
