"""Breadth: how widely a filtered search has to look, so that a narrow filter costs time and not recall.

An encoder whose queries name few of many codewords finds its candidates near the query. A filter takes most of them
away, and the nearest of the documents that it keeps lie farther off, at other codewords. So such a query names more of
them, the more the narrower the filter is; and where the filter keeps few documents, all of these are compared exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from deepterms.encoders.encoder import Encoder, WideningEncoder
from deepterms.terms import TermFrequencies

__all__ = ["USUAL", "Breadth", "breadth_of", "query_terms", "widens"]

# Documents that are compared one by one rather than found by codewords: 2 to 4 microseconds each.
COMPARED_AT_MOST = 2_000
# So many of them where even the widest query would find fewer candidates than are to be re-ranked.
COMPARED_IF_FEW_FOUND = 10_000
# And so many times as many where they have sketches, which take a third of a microsecond each. From some 25,000 on
# codewords would be quicker, but of 50,000 that a filter kept of 500,000 mixtures they found .96 of the ten nearest,
# sketches all.
SKETCHED = 30
# But so few are compared by their vectors all the same: the nearest of few are not near, and signs tell them badly. Of
# 500 of 500,000 mixtures, the best hundred by their sketches lacked .02 of the ten nearest; of 5,000, .002.
COMPARED_BY_VECTOR = 1_000
# Codewords that a widened query names at most: OpenSearch allows 1,024 clauses, and the filter has some too.
NAMED_AT_MOST = 768


@dataclass(frozen=True)
class Breadth:
    """How widely to look.

    Attributes:
        codewords: how many a query names; None for the encoder's own number.
        exact: compare every document that the filter keeps, by its stored vector.
        sketched: all of them by their sketches first.
    """

    codewords: int | None = None
    exact: bool = False
    sketched: bool = False


USUAL = Breadth()


def widens(encoder: Encoder, *, filter: Mapping[str, Any] | None, window: int) -> bool:
    """Whether a search must know first how many documents its filter keeps.

    Args:
        encoder: of the index.
        filter: as asked.
        window: how many candidates are re-ranked. Without re-ranking the score is the dot product with the query as
            the encoder gives it, so nothing is changed.
    """
    return filter is not None and window > 0 and isinstance(encoder, WideningEncoder)


def breadth_of(
    encoder: Encoder, *, kept: int, documents: int, window: int, exact: bool = True, sketch: bool = False
) -> Breadth:
    """How widely to look behind a filter.

    Args:
        encoder: of the index.
        kept: how many documents the filter keeps.
        documents: how many there are.
        window: how many candidates are re-ranked.
        exact: whether vectors are stored where the filter is evaluated.
        sketch: whether they have sketches there.
    """
    if not isinstance(encoder, WideningEncoder) or not 0 < kept < documents:
        return USUAL
    times = SKETCHED if sketch else 1
    if exact and kept <= max(window, times * COMPARED_AT_MOST):
        return Breadth(exact=True, sketched=sketch and kept > COMPARED_BY_VECTOR)
    # Codewords in proportion to documents / kept leave as many candidates as without a filter, and recall follows the
    # number of candidates: with the square root of that it fell from .96 to .90 where 3 % of 60,000 were kept.
    usual, most = encoder.query_words, min(NAMED_AT_MOST, encoder.vocabulary_size)
    codewords = max(usual, min(math.ceil(usual * documents / kept), most))
    found = kept * codewords * encoder.document_words / encoder.vocabulary_size
    if exact and found < window and kept <= times * COMPARED_IF_FEW_FOUND:
        return Breadth(exact=True, sketched=sketch and kept > COMPARED_BY_VECTOR)
    return Breadth(codewords=codewords)


def query_terms(encoder: Encoder, features: ArrayLike, breadth: Breadth) -> TermFrequencies:
    """Term frequencies (N, V) of queries (N, D) that look that widely.

    Raises:
        InvalidInput: as `Encoder.encode_queries`.
    """
    if breadth.codewords is not None and isinstance(encoder, WideningEncoder):
        return encoder.encode_wider_queries(features, query_words=breadth.codewords)
    return encoder.encode_queries(features)
