"""Search bodies: the term frequencies of a query turned into clauses of the engine's query language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.schema.layouts import CODEWORDS, Layout
from deepterms.terms import TermFrequencies

__all__ = ["count_clauses", "exact_body", "list_body_query", "search_body"]


def search_body(
    terms: TermFrequencies,
    *,
    layout: Layout,
    field: str = CODEWORDS,
    k: int,
    filter: Mapping[str, Any] | None = None,
    rescore: Sequence[Mapping[str, Any]] | None = None,
    source: Sequence[str] | bool = ("metadata",),
) -> dict[str, Any]:
    """Build the body of a search for one query.

    Each codeword becomes one clause with its frequency as boost. A clause scores boost × frequency and the engine sums
    them, so the score is the dot product. Repeating codewords as text instead would exceed OpenSearch's limit of 1,024
    clauses from K = 45 on.

    Args:
        terms: term frequencies of the query, (1, V).
        layout: layout of the index.
        field: name of the field of codewords, from `IndexState`.
        k: number of hits to return.
        filter: any query of the engine; only documents that match it are hits.
        rescore: the ``rescore`` part, from `deepterms.search.rerank`. Default: no re-ranking.
        source: stored fields to return.
    """
    (query,) = terms.to_terms()
    matching: dict[str, Any] = {
        "should": [layout.clause(codeword, frequency, field=field) for codeword, frequency in query.items()],
        # With a filter, the engine would otherwise also return documents that share no codeword, slowly.
        "minimum_should_match": 1,
    }
    if filter is not None:
        matching["filter"] = [filter]
    body: dict[str, Any] = {
        "size": k,
        "query": {"bool": matching},
        "_source": list(source) if not isinstance(source, bool) else source,
        "track_total_hits": False,  # counting all matches would disable the engine's pruning
    }
    if rescore is not None:
        body["rescore"] = list(rescore)
    return body


def list_body_query(
    query: Mapping[str, int], *, layout: Layout, field: str = CODEWORDS, filter: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build the query that matches every document that has one of some codewords.

    Args:
        query: codeword → frequency in the query.
        layout: layout of the index.
        field: name of the field of codewords, from `IndexState`.
        filter: any query of the engine, which documents must match too.
    """
    filters = [] if filter is None else [filter]
    if layout.query == "term":  # reads the lists without scoring, in a fraction of the time of as many clauses
        return {"bool": {"filter": [{"terms": {field: list(query)}}, *filters]}}
    clauses = [layout.clause(codeword, frequency, field=field) for codeword, frequency in query.items()]
    return {"bool": {"should": clauses, "minimum_should_match": 1, "filter": filters}}


def exact_body(
    scored: Mapping[str, Any],
    *,
    k: int,
    rescore: Sequence[Mapping[str, Any]] | None = None,
    source: Sequence[str] | bool = ("metadata",),
) -> dict[str, Any]:
    """Build the body of a search that scores every document of a filter by its vector or its sketch.

    Args:
        scored: the query, from `score_by_cosine` or `score_by_sketch` of `deepterms.schema.scripts`.
        k: number of hits to return.
        rescore: the ``rescore`` part, as in `search_body`.
        source: stored fields to return.
    """
    body = {
        "size": k,
        "query": scored,
        "_source": list(source) if not isinstance(source, bool) else source,
        "track_total_hits": False,
    }
    return body if rescore is None else {**body, "rescore": list(rescore)}


def count_clauses(query: Mapping[str, Any]) -> int:
    """Count the clauses of a query like the engine does: every query that is not a bool."""
    if set(query) != {"bool"} or not isinstance(query["bool"], Mapping):
        return 1
    count = 0
    for occur in ("must", "filter", "should", "must_not"):
        inner = query["bool"].get(occur, ())
        count += sum(map(count_clauses, [inner] if isinstance(inner, Mapping) else inner))
    return count
