"""Recall: the share of the ten nearest that pivots and re-ranking find, as a curve through what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["HARD", "INT8_KEEPS", "PHOTOGRAPHS", "SKEW", "RecallCurve"]

# A query's pivots are near much, so their lists are longer than the mean list: 1.11 to 1.25 times in the same runs.
SKEW = 1.2
# Of the ten nearest among 500,000 mixtures of 1,280 dimensions, so many are among the ten nearest by int8 vectors.
INT8_KEEPS = 0.999


@dataclass(frozen=True)
class RecallCurve:
    """A logistic curve: log-odds of R@10 = constant + Σ weight · ln(number).

    The candidates count as 1/(1/candidates + 1/postings), since no more can be re-ranked than a query's postings hold.

    Attributes:
        name: of the descriptors.
        constant: of the log-odds.
        candidates: weight.
        pivots: weight.
        documents: weight.
        words: weight of the words a document.
        error: root mean square of what the curve is off where R@10 is above .85.
        largest: the most documents among what was measured.
        max_pivots: likewise.
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
        """R@10, 0…1.

        Args:
            documents: N.
            pivots: P.
            words: a document.
            candidates: that are re-ranked, of all shards together.
            postings: that the query's codewords have.
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


# Fitted by benchmarks/recall_curve.py to benchmarks/results/recall-*.json. The first is too low by .05 at 200,000
# documents and right within .01 at a million; both are of pivots that were found exactly, at most 16,384 of them.
HARD = RecallCurve(
    "mixtures of descriptors", -2.723, 1.074, 0.848, -0.726, 0.110, error=0.025, largest=1_000_000, max_pivots=16_384
)
PHOTOGRAPHS = RecallCurve(
    "crops of photographs", -5.909, 0.924, 0.882, -0.096, 0.181, error=0.004, largest=16_992, max_pivots=4_096
)
