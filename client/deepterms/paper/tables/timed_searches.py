"""Time exhaustive searches of several indices, alternating between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError
from deepterms.schema.layouts import Layout
from deepterms.search.body import search_body
from deepterms.terms import TermFrequencies

__all__ = ["WARM_UP", "Progress", "TimedSearches", "build_exhaustive_body", "ignore_progress", "search_in_turn"]

WARM_UP = 20  # untimed searches per index, while the JIT compiles the engine's code

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the current step, the amount done, and the total."""


def ignore_progress(step: str, done: int, total: int) -> None:
    """Discard progress reports."""


@dataclass(eq=False)
class TimedSearches:
    """Times and hits of the searches of one index, one entry per search.

    Attributes:
        ms: milliseconds measured in the client.
        took_ms: milliseconds reported by the engine, as integers.
        touched: number of matching documents.
        best: scores of the hits.
    """

    ms: list[float] = field(default_factory=list)
    took_ms: list[int] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)
    best: list[list[float]] = field(default_factory=list)

    def summarize(self) -> dict[str, float]:
        """Return ``mean_ms``, ``p50_ms``, ``p95_ms`` and ``p99_ms``."""
        quantiles = np.quantile(self.ms, (0.5, 0.95, 0.99)).tolist()
        return {"mean_ms": float(np.mean(self.ms)), **dict(zip(("p50_ms", "p95_ms", "p99_ms"), quantiles, strict=True))}


def build_exhaustive_body(terms: TermFrequencies, *, layout: Layout, k: int) -> dict[str, Any]:
    """Build a search that scores every document sharing a codeword with the query (1, V), without re-ranking.

    Counting all matches makes the engine visit every one of them. Ids come from doc values, because reading a stored
    field per hit would cost more than some of the searches.
    """
    body = search_body(terms, layout=layout, k=k, source=False)
    return body | {"track_total_hits": True, "stored_fields": "_none_", "docvalue_fields": ["id"]}


def search_in_turn(
    cluster: Cluster,
    bodies: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    warm_up: int = WARM_UP,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, TimedSearches]:
    """Send each index its next search in turn, in alternating order, so that a load spike affects all of them.

    Args:
        cluster: to search.
        bodies: index name, or several separated by commas → searches; the same number for each.
        warm_up: untimed searches per index, sent first.
        on_progress: called with the number of searches done per index.

    Returns:
        The key of `bodies` → times and hits.

    Raises:
        ClusterError: a response is incomplete.
        ClusterUnreachable, RequestRejected: the cluster did not answer or rejected a request.
    """
    found = {index: TimedSearches() for index in bodies}
    count = min(map(len, bodies.values()))
    for number in range(-warm_up, count):
        for index in list(bodies)[:: 1 if number % 2 else -1]:
            body = bodies[index][number % count]
            started = time.perf_counter()
            answer = cluster.request("POST", f"/{index}/_search", body=body, params={"request_cache": False})
            elapsed = time.perf_counter() - started
            if is_incomplete(answer):
                raise ClusterError(f"a search of {index} was incomplete: {answer.get('_shards')}; nothing was measured")
            if number >= 0:
                found[index].ms.append(1e3 * elapsed)
                found[index].took_ms.append(int(answer["took"]))
                found[index].touched.append(int(answer["hits"]["total"]["value"]))
                found[index].best.append([hit["_score"] for hit in answer["hits"]["hits"]])
        on_progress(max(0, number + 1))
    return found
