"""Search bodies: a query's term frequencies as clauses of the engine's own query language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.schema.layouts import CODEWORDS, Layout
from deepterms.terms import TermFrequencies

__all__ = ["clause_count", "exact_body", "search_body"]


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
    """The body of a search for one query.

    One clause a codeword, with its frequency as boost: each scores boost × frequency and the engine sums, so the score
    is the dot product. Never the repeated text: from K = 45 on it has more words than the 1,024 clauses that OpenSearch
    allows.

    Args:
        terms: the query, (1, V).
        layout: of the index.
        field: by which the clauses name the codewords, from `IndexState`.
        k: how many hits to return.
        filter: any query of the engine; only documents that match it are hits.
        rescore: the re-ranking, from `deepterms.search.rerank`.
        source: which stored fields come back.
    """
    (query,) = terms.to_terms()
    matching: dict[str, Any] = {
        "should": [layout.clause(codeword, frequency, field=field) for codeword, frequency in query.items()],
        # Beside a filter the engine would otherwise return documents that share no codeword, slowly.
        "minimum_should_match": 1,
    }
    if filter is not None:
        matching["filter"] = [filter]
    body: dict[str, Any] = {
        "size": k,
        "query": {"bool": matching},
        "_source": list(source) if not isinstance(source, bool) else source,
        "track_total_hits": False,  # a count of all matches would switch the engine's pruning off
    }
    if rescore is not None:
        body["rescore"] = list(rescore)
    return body


def exact_body(
    scored: Mapping[str, Any],
    *,
    k: int,
    rescore: Sequence[Mapping[str, Any]] | None = None,
    source: Sequence[str] | bool = ("metadata",),
) -> dict[str, Any]:
    """The body of a search that scores every document of a filter by its vector or its sketch.

    Args:
        scored: from `deepterms.search.rerank.compared` or `deepterms.schema.sketches.by_sketch`.
        k: how many hits to return.
        rescore: the re-ranking, as in `search_body`.
        source: which stored fields come back.
    """
    body = {
        "size": k,
        "query": scored,
        "_source": list(source) if not isinstance(source, bool) else source,
        "track_total_hits": False,
    }
    return body if rescore is None else {**body, "rescore": list(rescore)}


def clause_count(query: Mapping[str, Any]) -> int:
    """How many clauses the engine counts in a query: every one that is not a bool of others."""
    if set(query) != {"bool"} or not isinstance(query["bool"], Mapping):
        return 1
    count = 0
    for occur in ("must", "filter", "should", "must_not"):
        inner = query["bool"].get(occur, ())
        count += sum(map(clause_count, [inner] if isinstance(inner, Mapping) else inner))
    return count
