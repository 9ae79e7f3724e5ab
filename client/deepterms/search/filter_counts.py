"""FilterCounts: how many documents filters keep, remembered for a moment, since filters are asked again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import find_error, is_incomplete

__all__ = ["FilterCounts", "Kept"]

# As long as a write may take to show in searches: the engines' own refresh_interval.
SECONDS = 1.0
# Filters that are remembered at once.
MOST = 1_000

_ALL: Mapping[str, Any] = {"match_all": {}}


class Kept(NamedTuple):
    """What a filter leaves of an index.

    Attributes:
        kept: documents that match it.
        documents: all of them.
    """

    kept: int
    documents: int


class FilterCounts:
    """The counts of one index; threads may share them.

    They decide how widely a search looks, and never which documents it may return. A filter that keeps nothing is
    counted each time, since the first documents that it keeps are to be compared, all of them, at once.

    Args:
        cluster: where the index is.
        name: of the index.
        clock: seconds, of any beginning.
    """

    def __init__(self, cluster: Cluster, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._name = name
        self._clock = clock
        self._known: dict[str, tuple[float, Kept]] = {}

    def of(self, filter: Mapping[str, Any]) -> Kept | None:
        """What a filter keeps, as of a second ago at most; None if not every shard says.

        Raises:
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        text, now = json.dumps(filter), self._clock()
        known = self._known.get(text)
        if known is not None and now < known[0] + SECONDS:
            return known[1]
        found = self._count(filter)
        if found is not None and found.kept:
            if len(self._known) >= MOST:
                self._known = {}
            self._known[text] = (now, found)
        return found

    def forget(self) -> None:
        """Count anew: what was written shows from now on, or the name points elsewhere."""
        self._known = {}

    def _count(self, filter: Mapping[str, Any]) -> Kept | None:
        # Counts beyond the first 10,000 are wanted too. Both come from the index's own statistics for common filters.
        bodies = [{"size": 0, "query": query, "track_total_hits": True} for query in (filter, _ALL)]
        counts = []
        for answer in self._cluster.search_many(bodies, index=self._name):
            refused = find_error(answer)
            if refused is not None:
                raise refused
            if is_incomplete(answer):
                return None
            counts.append(int(answer["hits"]["total"]["value"]))
        return Kept(*counts)
