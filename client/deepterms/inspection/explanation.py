"""Explanations: the score of a document broken down into the codewords it shares with a query."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepterms.terms import TermFrequencies

__all__ = ["Explanation", "Match", "explain"]

RELATIVE_TOLERANCE = 1e-6  # engines compute scores in float32


@dataclass(frozen=True)
class Match:
    """One codeword that the query and the document share.

    Attributes:
        codeword: the codeword, such as ``t17``.
        weight: term frequency in the query, sent as boost.
        frequency: term frequency in the document.
    """

    codeword: str
    weight: int
    frequency: int

    @property
    def product(self) -> int:
        """The contribution to the score, weight × frequency."""
        return self.weight * self.frequency


@dataclass(frozen=True)
class Explanation:
    """Why a document has its score for a query, before re-ranking.

    Attributes:
        id: id of the document.
        matches: shared codewords, largest product first.
        engine_score: score that the index gives the document; 0 if the document is not a hit.
        query_codewords: number of codewords of the query.
        document_codewords: number of codewords of the document.
    """

    id: str
    matches: tuple[Match, ...]
    engine_score: float
    query_codewords: int
    document_codewords: int

    @property
    def score(self) -> int:
        """The sum of the products."""
        return sum(match.product for match in self.matches)

    @property
    def agrees(self) -> bool:
        """Whether the index's score equals this sum, up to float32 rounding."""
        return math.isclose(self.engine_score, self.score, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


def explain(id: str, *, query: TermFrequencies, document: TermFrequencies, engine_score: float) -> Explanation:
    """Break the score of one document down by codeword.

    Args:
        id: id of the document.
        query: term frequencies of the query, (1, V).
        document: term frequencies of the document, (1, V).
        engine_score: score that the index gives the document for this query.
    """
    (asked,), (held,) = query.to_terms(), document.to_terms()
    matches = [Match(codeword, weight, held[codeword]) for codeword, weight in asked.items() if codeword in held]
    ranked = sorted(matches, key=lambda match: -match.product)  # stable: equal products by component
    return Explanation(id, tuple(ranked), engine_score, len(asked), len(held))
