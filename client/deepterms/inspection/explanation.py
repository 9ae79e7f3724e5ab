"""Explanations: a score taken apart into the codewords that a query and a document share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepterms.terms import TermFrequencies

__all__ = ["Explanation", "Match", "explain"]

RELATIVE_TOLERANCE = 1e-6  # an engine's score is float32


@dataclass(frozen=True)
class Match:
    """One codeword that the query and the document share.

    Attributes:
        codeword: ``t17``.
        weight: its term frequency in the query, sent as boost.
        frequency: its term frequency in the document.
    """

    codeword: str
    weight: int
    frequency: int

    @property
    def product(self) -> int:
        """What it adds to the score."""
        return self.weight * self.frequency


@dataclass(frozen=True)
class Explanation:
    """Why a document has its score for a query, before re-ranking.

    Attributes:
        id: of the document.
        matches: the codewords in common, the largest product first.
        engine_score: what the index itself gives the document; 0 if it is no hit.
        query_codewords: how many codewords were asked for.
        document_codewords: how many the document has.
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
        """Whether the index's own score is this sum, up to the rounding of float32."""
        return math.isclose(self.engine_score, self.score, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


def explain(id: str, *, query: TermFrequencies, document: TermFrequencies, engine_score: float) -> Explanation:
    """Take the score of one document apart.

    Args:
        id: of the document.
        query: (1, V).
        document: (1, V).
        engine_score: of the document for this query.
    """
    (asked,), (held,) = query.to_terms(), document.to_terms()
    matches = [Match(codeword, weight, held[codeword]) for codeword, weight in asked.items() if codeword in held]
    ranked = sorted(matches, key=lambda match: -match.product)  # stable: equal products by component
    return Explanation(id, tuple(ranked), engine_score, len(asked), len(held))
