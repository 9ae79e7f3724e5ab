"""Search bodies: a query's term frequencies as clauses of the engine's own query language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.layouts import Layout
from deepterms.terms import TermFrequencies

__all__ = ["search_body"]


def search_body(
    terms: TermFrequencies,
    *,
    layout: Layout,
    k: int,
    filter: Mapping[str, Any] | None = None,
    rescore: Mapping[str, Any] | None = None,
    source: Sequence[str] | bool = ("metadata",),
) -> dict[str, Any]:
    """The body of a search for one query.

    One clause a codeword, with its frequency as boost: each scores boost × frequency and the engine sums, so the score
    is the dot product. Never the repeated text: from K = 45 on it has more words than the 1,024 clauses that OpenSearch
    allows.

    Args:
        terms: the query, (1, V).
        layout: of the index.
        k: how many hits to return.
        filter: any query of the engine; only documents that match it are hits.
        rescore: the re-ranking, from `deepterms.rerank`.
        source: which stored fields come back.
    """
    (query,) = terms.to_terms()
    matching: dict[str, Any] = {
        "should": [layout.clause(codeword, frequency) for codeword, frequency in query.items()],
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
        body["rescore"] = rescore
    return body
