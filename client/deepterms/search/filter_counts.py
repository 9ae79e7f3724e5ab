"""FilterCounts: filters to the number of documents they keep, cached briefly because filters recur."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import find_error, is_incomplete

__all__ = ["FilterCounts", "Kept"]

# The engines' own refresh_interval: a write may take this long to become visible to searches anyway.
LIFETIME_SECONDS = 1.0
MAX_FILTERS = 1_000

_ALL: Mapping[str, Any] = {"match_all": {}}


class Kept(NamedTuple):
    """Document counts of an index with and without a filter.

    Attributes:
        kept: number of documents that match the filter.
        documents: number of all documents.
    """

    kept: int
    documents: int


class FilterCounts:
    """Cached counts of one index; threads may share them.

    Counts only decide how broadly a search looks, never which documents it may return. A filter that keeps nothing is
    counted every time: the first documents that match it must be compared exactly without delay.

    Args:
        cluster: the cluster that holds the index.
        name: name of the index.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, cluster: Cluster, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._name = name
        self._clock = clock
        self._known: dict[str, tuple[float, Kept]] = {}

    def get(self, filter: Mapping[str, Any]) -> Kept | None:
        """Return the counts for a filter, at most one second old; None if a shard did not answer.

        Raises:
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the filter.
        """
        text, now = json.dumps(filter), self._clock()
        known = self._known.get(text)
        if known is not None and now < known[0] + LIFETIME_SECONDS:
            return known[1]
        found = self._count(filter)
        if found is not None and found.kept:
            if len(self._known) >= MAX_FILTERS:
                self._known = {}
            self._known[text] = (now, found)
        return found

    def forget(self) -> None:
        """Empty the cache, after a refresh or when the name points to another index."""
        self._known = {}

    def _count(self, filter: Mapping[str, Any]) -> Kept | None:
        # Without track_total_hits, engines stop counting at 10,000. Common filters are counted from index statistics.
        bodies = [{"size": 0, "query": query, "track_total_hits": True} for query in (filter, _ALL)]
        counts = []
        for answer in self._cluster.search_many(bodies, index=self._name):
            rejection = find_error(answer)
            if rejection is not None:
                raise rejection
            if is_incomplete(answer):
                return None
            counts.append(int(answer["hits"]["total"]["value"]))
        return Kept(*counts)
