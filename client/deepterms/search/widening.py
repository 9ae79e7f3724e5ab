"""Breadth: how widely a filtered search has to look, so that a narrow filter costs time and not recall.

An encoder whose queries name few of many codewords finds its candidates near the query. A filter takes most of them
away, and the nearest of the documents that it keeps lie farther off, at other codewords, and are told worse by them. So
such a query names more of them, and re-ranks more candidates; and where the filter keeps few documents, all of these
are compared exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from deepterms.encoders.encoder import Encoder, WideningEncoder
from deepterms.search.options import SearchOptions
from deepterms.terms import TermFrequencies

__all__ = ["USUAL", "Breadth", "breadth_of", "keep_largest_components", "query_terms", "widens"]

# Documents that are compared one by one rather than found by codewords: 2 to 4 microseconds each.
MAX_COMPARED = 2_000
# So many of them where even the widest query would find fewer candidates than are to be re-ranked.
COMPARED_IF_FEW_FOUND = 10_000
# And so many times as many where they have sketches, which take a third of a microsecond each. From some 25,000 on
# codewords would be quicker, but of 50,000 that a filter kept of 500,000 mixtures they found .96 of the ten nearest,
# sketches all.
SKETCHED = 30
# But so few are compared by their vectors all the same: the nearest of few are not near, and signs tell them badly. Of
# 500 of 500,000 mixtures, the best hundred by their sketches lacked .02 of the ten nearest; of 5,000, .002.
COMPARED_BY_VECTOR = 1_000
# How many times as many candidates as usual are found and re-ranked behind a filter. Where a fifth of 500,000 mixtures
# was kept, .977 of the ten nearest were found: as many with six times, and .966 with the usual number out of five times
# the codewords, in half as much time again. Where three tenths were kept three times found .977, four times .984.
DEEPER = 4
# Candidates that are re-ranked at most unless more were asked for: what both engines allow (max_rescore_window).
MAX_RERANKED = 10_000
# Codewords that a widened query names at most: OpenSearch allows 1,024 clauses, and the filter has some too.
MAX_NAMED = 768


@dataclass(frozen=True)
class Breadth:
    """How widely to look.

    Attributes:
        codewords: how many a query names; None for as many as the encoder and the effort say.
        window: how many candidates are re-ranked; None for as many as are asked for.
        exact: compare every document that the filter keeps, by its stored vector.
        sketched: all of them by their sketches first.
    """

    codewords: int | None = None
    window: int | None = None
    exact: bool = False
    sketched: bool = False

    def widened(self, options: SearchOptions) -> SearchOptions:
        """The options of a search that looks so widely."""
        return options if self.window is None else replace(options, rerank=self.window)


USUAL = Breadth()


def widens(encoder: Encoder, *, window: int) -> bool:
    """Whether a search with a filter must know first how many documents the filter keeps.

    Args:
        encoder: of the index.
        window: how many candidates are re-ranked. Without re-ranking the score is the dot product with the query as
            the encoder gives it, so nothing is changed.
    """
    return window > 0 and isinstance(encoder, WideningEncoder)


def breadth_of(
    encoder: Encoder,
    *,
    kept: int,
    documents: int,
    window: int,
    effort: float = 1.0,
    exact: bool = True,
    sketch: bool = False,
) -> Breadth:
    """How widely to look behind a filter.

    Args:
        encoder: of the index.
        kept: how many documents the filter keeps.
        documents: how many there are.
        window: how many candidates are re-ranked.
        effort: the share of the query's codewords that is asked for.
        exact: whether vectors are stored where the filter is evaluated.
        sketch: whether they have sketches there.
    """
    if not isinstance(encoder, WideningEncoder) or not 0 < kept < documents:
        return USUAL
    times = SKETCHED if sketch else 1
    if exact and kept <= max(window, times * MAX_COMPARED):
        return Breadth(exact=True, sketched=sketch and kept > COMPARED_BY_VECTOR)
    # In proportion to documents / kept they leave as many candidates as without a filter; fewer are enough if they find
    # all that are re-ranked. Where they found less recall fell: from .96 to .90, with 3 % of 60,000 kept.
    usual, most = math.ceil(effort * encoder.words_per_query), min(MAX_NAMED, encoder.vocabulary_size)
    found_per_codeword = kept * encoder.words_per_document / encoder.vocabulary_size
    wanted = min(usual * documents / kept, DEEPER * window / found_per_codeword)
    codewords = max(usual, min(math.ceil(wanted), most))
    found = codewords * found_per_codeword
    if exact and found < window and kept <= times * COMPARED_IF_FEW_FOUND:
        return Breadth(exact=True, sketched=sketch and kept > COMPARED_BY_VECTOR)
    deeper = math.ceil(window * min(documents / kept, DEEPER))
    return Breadth(codewords=codewords, window=max(window, min(deeper, MAX_RERANKED)))


def keep_largest_components(terms: TermFrequencies, effort: float) -> TermFrequencies:
    """A query cut to its largest components; of equal ones those of the lowest number stay.

    Args:
        terms: of one query, (1, V).
        effort: the share of its codewords that is kept, above 0 and at most 1, rounded up.
    """
    if effort == 1:
        return terms
    ((components, weights),) = terms.rows()
    kept = np.sort(np.argsort(-weights, kind="stable")[: math.ceil(effort * len(weights))])
    arrays = (weights[kept], components[kept], np.array([0, len(kept)], dtype=np.int32))
    return TermFrequencies(sparse.csr_array(arrays, shape=(1, terms.vocabulary_size)))


def query_terms(
    encoder: Encoder, asked: ArrayLike | TermFrequencies, breadth: Breadth = USUAL, *, effort: float = 1.0
) -> TermFrequencies:
    """Term frequencies (N, V) of queries (N, D).

    Args:
        encoder: of the index.
        asked: the features of the queries; of one query where effort is below 1. Or its terms, if they are known.
        breadth: how widely they look.
        effort: the share of their codewords that is asked for, the largest first; in those of a breadth it is counted.
            Few of the nearest pivots are found sooner than many.

    Raises:
        InvalidInput: as `Encoder.encode_queries`.
    """
    if isinstance(asked, TermFrequencies):
        return keep_largest_components(asked, effort)
    if breadth.codewords is None and effort == 1:
        return encoder.encode_queries(asked)
    if not isinstance(encoder, WideningEncoder):
        return keep_largest_components(encoder.encode_queries(asked), effort)
    codewords = breadth.codewords or math.ceil(effort * encoder.words_per_query)
    return encoder.encode_wider_queries(asked, words_per_query=codewords)
