"""Recall: from the settings of an index to its R@10, by curves fitted to measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["HARD", "INT8_KEEPS", "PHOTOGRAPHS", "SKEW", "RecallCurve"]

# A query's pivots lie in dense regions, so their posting lists are longer than average: 1.11 to 1.25 times in the same
# runs.
SKEW = 1.2
# The share of the ten nearest among 500,000 mixtures of 1,280 dimensions that are also the ten nearest by int8 vectors.
INT8_KEEPS = 0.999


@dataclass(frozen=True)
class RecallCurve:
    """A logistic curve: log-odds of R@10 = constant + Σ weight · ln(number).

    Candidates count as 1/(1/candidates + 1/postings), as a query cannot re-rank more documents than its postings hold.

    Attributes:
        name: the kind of descriptors.
        constant: the constant of the log-odds.
        candidates: weight of the candidates.
        pivots: weight of the pivots.
        documents: weight of the documents.
        words: weight of the words per document.
        error: root mean square error of the curve where R@10 is above .85.
        largest: the largest number of documents measured.
        max_pivots: the largest number of pivots measured.
    """

    name: str
    constant: float
    candidates: float
    pivots: float
    documents: float
    words: float
    error: float
    largest: int
    max_pivots: int

    def __call__(self, *, documents: float, pivots: int, words: int, candidates: float, postings: float) -> float:
        """Predict R@10, from 0 to 1.

        Args:
            documents: N, the number of documents.
            pivots: P, the number of pivots.
            words: words per document.
            candidates: candidates to re-rank, over all shards.
            postings: postings of the query's codewords.
        """
        if candidates >= documents and postings >= documents:
            return 1.0
        usable = 1 / (1 / candidates + 1 / postings)
        odds = self.constant + (
            self.candidates * math.log(usable)
            + self.pivots * math.log(pivots)
            + self.documents * math.log(documents)
            + self.words * math.log(words)
        )
        return 1 / (1 + math.exp(-odds))


# Fitted by benchmarks/recall_curve.py to benchmarks/results/recall-*.json. The first curve is .05 too low at 200,000
# documents and within .01 at a million. Both were measured with exact search for pivots, at most 16,384 of them.
HARD = RecallCurve(
    "mixtures of descriptors", -2.723, 1.074, 0.848, -0.726, 0.110, error=0.025, largest=1_000_000, max_pivots=16_384
)
PHOTOGRAPHS = RecallCurve(
    "crops of photographs", -5.909, 0.924, 0.882, -0.096, 0.181, error=0.004, largest=16_992, max_pivots=4_096
)
