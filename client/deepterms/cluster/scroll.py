"""Pages: all hits of a search, however many, as of the moment it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError

__all__ = ["check_hits", "scroll_pages"]

KEPT = "5m"  # between two pages


def scroll_pages(
    cluster: Cluster, index: str, body: Mapping[str, Any], *, size: int, params: Mapping[str, Any] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """All hits, in the order in which they lie in the index, by a scroll: both engines have it.

    Args:
        cluster: where.
        index: a name, for all that is behind it.
        body: of the search, without size and sort.
        size: hits a page.
        params: of the query string.

    Raises:
        ClusterError: a shard failed; no page ever lacks hits silently.
    """
    answer = cluster.request(
        "POST",
        build_index_path(index, "/_search"),
        body={**body, "size": size, "sort": ["_doc"]},
        params={"scroll": KEPT, **(params or {})},
    )
    scroll = answer["_scroll_id"]
    try:
        while page := check_hits(answer):
            yield page
            answer = cluster.request("POST", "/_search/scroll", body={"scroll": KEPT, "scroll_id": scroll})
            scroll = answer["_scroll_id"]
    finally:
        cluster.request("DELETE", "/_search/scroll", body={"scroll_id": [scroll]})


def check_hits(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hits of an answer that lacks none."""
    if is_incomplete(answer):
        raise ClusterError("a shard failed or ran out of time while documents were read; run this again")
    return list(answer["hits"]["hits"])
