"""Widening: a filter's selectivity to the breadth of a search, so that a narrow filter costs time but not recall.

An encoder whose queries have few of many codewords finds candidates near the query. A narrow filter removes most of
them; the nearest documents that it keeps lie farther away, have other codewords, and are ranked less accurately by
them. A filtered query therefore gets more codewords and re-ranks more candidates. If the filter keeps few documents,
all of them are compared exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from deepterms.encoders.encoder import Encoder, WideningEncoder
from deepterms.schema.tuning import PROMISED_HITS
from deepterms.search.options import SearchOptions
from deepterms.terms import TermFrequencies

__all__ = [
    "DEFAULT_BREADTH",
    "Breadth",
    "build_query_terms",
    "choose_breadth",
    "choose_unfiltered_breadth",
    "keep_largest_components",
    "needs_widening",
]

# Up to this many documents are compared exhaustively rather than found by codewords: 2 to 4 microseconds each.
MAX_COMPARED = 2_000
# The same limit where even the widest query would find fewer candidates than are to be re-ranked.
COMPARED_IF_FEW_FOUND = 10_000
# Both limits grow by this factor with sketches, which take a third of a microsecond each. From about 25,000 documents
# on, codewords would be faster, but when a filter kept 50,000 of 500,000 mixtures, they found .96 of the ten nearest;
# sketches found all.
SKETCH_FACTOR = 30
# The same with native comparison. A document took about .2 µs (1,280 dimensions, inner products of bytes); beyond this
# number, lists are read, which compare fewer.
NATIVE_FACTOR = 10
# Up to this many are compared by vector even with sketches: the nearest of few documents are not near, and sign bits
# rank them poorly. The best 100 by sketch missed .02 of the ten nearest when 500 of 500,000 mixtures were kept, and
# .002 when 5,000 were.
MAX_COMPARED_BY_VECTOR = 1_000
# Behind a filter, up to this many times the default number of candidates are found and re-ranked. When a fifth of
# 500,000 mixtures was kept, a factor of four found .977 of the ten nearest; six found no more, and the default number
# of candidates from five times the codewords found .966 in 1.5 times the time. When three tenths were kept, a factor
# of three found .977 and four found .984.
DEPTH_FACTOR = 4
# The most candidates that both engines re-rank by default (max_rescore_window); a larger request is sent unchanged.
MAX_RERANKED = 10_000
# The most codewords of a widened query: OpenSearch allows 1,024 clauses, some of which the filter needs.
MAX_NAMED = 768


@dataclass(frozen=True)
class Breadth:
    """How broadly a search looks.

    Attributes:
        codewords: number of codewords of the query; None for the default of the encoder and the effort.
        window: number of candidates to re-rank; None for the number requested.
        exact: compare every document that the filter keeps by its stored vector.
        sketched: if exact, compare them by sketch first.
        listed: compare every document that shares a codeword with the query by its stored vector.
    """

    codewords: int | None = None
    window: int | None = None
    exact: bool = False
    sketched: bool = False
    listed: bool = False

    def widen(self, options: SearchOptions) -> SearchOptions:
        """Apply the breadth to the options of a search."""
        return options if self.window is None else replace(options, rerank=self.window)


DEFAULT_BREADTH = Breadth()


def choose_unfiltered_breadth(options: SearchOptions) -> Breadth:
    """Choose the breadth of a search without a filter: that of its setting, if it has one.

    Recall was measured for ten hits. For more, as many times more candidates are re-ranked.
    """
    setting = options.setting
    if setting is None:
        return DEFAULT_BREADTH
    if setting.compares == "all":
        return Breadth(exact=True)
    if setting.compares == "listed":
        return Breadth(codewords=setting.words, listed=True)
    times = max(1.0, options.k / PROMISED_HITS)
    window = max(options.k, min(math.ceil(setting.candidates * times), MAX_RERANKED))
    return Breadth(codewords=setting.words, window=window)


def needs_widening(encoder: Encoder, *, window: int) -> bool:
    """Return whether a filtered search must first count the documents that its filter keeps.

    Args:
        encoder: encoder of the index.
        window: number of candidates to re-rank. Without re-ranking the score is the dot product with the encoder's
            query, which must not change.
    """
    return window > 0 and isinstance(encoder, WideningEncoder)


def choose_breadth(
    encoder: Encoder,
    *,
    kept: int,
    documents: int,
    window: int,
    effort: float = 1.0,
    exact: bool = True,
    sketch: bool = False,
    native: bool = False,
    base: Breadth = DEFAULT_BREADTH,
) -> Breadth:
    """Choose the breadth of a filtered search.

    Args:
        encoder: encoder of the index.
        kept: number of documents that the filter keeps.
        documents: number of documents in the index.
        window: number of candidates to re-rank.
        effort: share of the query's codewords to search for.
        exact: whether documents may be compared exactly: the index stores vectors and re-ranks with them.
        sketch: whether the index stores sketches.
        native: whether the index compares vectors natively, and so all documents that the codewords find.
        base: the breadth of the search without its filter.
    """
    if base.exact or not isinstance(encoder, WideningEncoder) or not 0 < kept < documents:
        return base
    default = base.codewords or math.ceil(effort * encoder.words_per_query)
    if base.listed:
        return _choose_listed_breadth(encoder, kept=kept, documents=documents, codewords=default, exact=exact)
    times = SKETCH_FACTOR if sketch else NATIVE_FACTOR if native else 1
    if exact and kept <= max(window, times * MAX_COMPARED):
        return Breadth(exact=True, sketched=sketch and kept > MAX_COMPARED_BY_VECTOR)
    # Codewords in proportion to documents / kept find the same number of candidates as without a filter; fewer suffice
    # if they find all candidates to re-rank. With too few, recall fell from .96 to .90 (3 % of 60,000 documents kept).
    most = max(default, min(MAX_NAMED, encoder.vocabulary_size))
    found_per_codeword = kept * encoder.words_per_document / encoder.vocabulary_size
    wanted = default * documents / kept
    if not native:
        wanted = min(wanted, DEPTH_FACTOR * window / found_per_codeword)
    codewords = max(default, min(math.ceil(wanted), most))
    found = codewords * found_per_codeword
    if exact and found < window and kept <= times * COMPARED_IF_FEW_FOUND:
        return Breadth(exact=True, sketched=sketch and kept > MAX_COMPARED_BY_VECTOR)
    deeper = math.ceil(window * min(documents / kept, DEPTH_FACTOR))
    return Breadth(codewords=codewords, window=max(window, min(deeper, MAX_RERANKED)))


def _choose_listed_breadth(
    encoder: WideningEncoder, *, kept: int, documents: int, codewords: int, exact: bool
) -> Breadth:
    """Choose how many codewords list as many of the documents that a filter keeps as of all without it."""
    wanted = math.ceil(codewords * documents / kept)
    # The lists overlap, so they hold fewer documents than this.
    listed = wanted * kept * encoder.words_per_document / encoder.vocabulary_size
    if exact and (kept <= max(MAX_COMPARED, listed) or wanted > encoder.vocabulary_size):
        return Breadth(exact=True)
    return Breadth(codewords=min(wanted, encoder.vocabulary_size), listed=True)


def keep_largest_components(terms: TermFrequencies, effort: float, *, count: int | None = None) -> TermFrequencies:
    """Keep the largest components of a query; of equal ones, those with the lowest number.

    Args:
        terms: term frequencies of one query, (1, V).
        effort: share of its codewords to keep, above 0 and at most 1, rounded up.
        count: how many to keep instead; None for the share.
    """
    if effort == 1 and count is None:
        return terms
    ((components, weights),) = terms.rows()
    kept = np.sort(np.argsort(-weights, kind="stable")[: math.ceil(effort * len(weights)) if count is None else count])
    arrays = (weights[kept], components[kept], np.array([0, len(kept)], dtype=np.int32))
    return TermFrequencies(sparse.csr_array(arrays, shape=(1, terms.vocabulary_size)))


def build_query_terms(
    encoder: Encoder, asked: ArrayLike | TermFrequencies, breadth: Breadth = DEFAULT_BREADTH, *, effort: float = 1.0
) -> TermFrequencies:
    """Build term frequencies (N, V) from query features (N, D).

    Args:
        encoder: encoder of the index.
        asked: features of the queries, or the terms of one query, (1, V). A single query if effort is below 1.
        breadth: breadth of the search; its number of codewords already includes the effort.
        effort: share of the codewords to keep, largest weights first. A `WideningEncoder` computes only these, since
            finding fewer of the nearest pivots is faster.

    Raises:
        InvalidInput: as for `Encoder.encode_queries`.
    """
    if isinstance(asked, TermFrequencies):
        return keep_largest_components(asked, effort)
    if breadth.codewords is None and effort == 1:
        return encoder.encode_queries(asked)
    if not isinstance(encoder, WideningEncoder):
        return keep_largest_components(encoder.encode_queries(asked), effort, count=breadth.codewords)
    codewords = breadth.codewords or math.ceil(effort * encoder.words_per_query)
    return encoder.encode_wider_queries(asked, words_per_query=min(codewords, encoder.vocabulary_size))
