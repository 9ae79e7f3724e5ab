"""Scrolls: reads all hits of a search page by page, as of the moment it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError

__all__ = ["check_hits", "scroll_pages"]

KEEP_ALIVE = "5m"  # between two pages


def scroll_pages(
    cluster: Cluster, index: str, body: Mapping[str, Any], *, size: int, params: Mapping[str, Any] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield all hits of a search, in index order, with the scroll API, which both engines have.

    Args:
        cluster: the cluster.
        index: an index or an alias; of an alias, all indices behind it are read.
        body: the search, without size and sort.
        size: hits per page.
        params: query string parameters.

    Raises:
        ClusterError: a shard failed; a page never lacks hits silently.
    """
    answer = cluster.request(
        "POST",
        build_index_path(index, "/_search"),
        body={**body, "size": size, "sort": ["_doc"]},
        params={"scroll": KEEP_ALIVE, **(params or {})},
    )
    scroll = answer["_scroll_id"]
    try:
        while page := check_hits(answer):
            yield page
            answer = cluster.request("POST", "/_search/scroll", body={"scroll": KEEP_ALIVE, "scroll_id": scroll})
            scroll = answer["_scroll_id"]
    finally:
        with suppress(ClusterError):  # it expires anyway, and must not hide an error of the caller
            cluster.request("DELETE", "/_search/scroll", body={"scroll_id": [scroll]})


def check_hits(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hits of a response.

    Raises:
        ClusterError: hits may be missing, because a shard failed or timed out.
    """
    if is_incomplete(answer):
        raise ClusterError("a shard failed or timed out while documents were read; run this again")
    return list(answer["hits"]["hits"])
