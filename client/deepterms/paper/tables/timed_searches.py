"""Indices of a collection to the times of exhaustive searches, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import incomplete
from deepterms.errors import ClusterError
from deepterms.schema.layouts import Layout
from deepterms.search.body import search_body
from deepterms.terms import TermFrequencies

__all__ = ["WARM_UP", "Searched", "exhaustive_body", "search_in_turn"]

WARM_UP = 20  # searches of each index that are not counted: the engine's compiler is at work


@dataclass(eq=False)
class Searched:
    """What the searches of one index took and found.

    Attributes:
        ms: of each, on this side of the wire.
        took_ms: of each, as the engine says, in whole milliseconds.
        touched: of each, how many documents matched.
        best: of each, the scores of the hits.
    """

    ms: list[float] = field(default_factory=list)
    took_ms: list[int] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)
    best: list[list[float]] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """``mean_ms``, ``p50_ms``, ``p95_ms`` and ``p99_ms``."""
        quantiles = np.quantile(self.ms, (0.5, 0.95, 0.99)).tolist()
        return {"mean_ms": float(np.mean(self.ms)), **dict(zip(("p50_ms", "p95_ms", "p99_ms"), quantiles, strict=True))}


def exhaustive_body(terms: TermFrequencies, *, layout: Layout, k: int) -> dict[str, Any]:
    """A search that scores every document which shares a codeword with the query, (1, V), without re-ranking.

    To count all matches the engine has to visit them, so it skips none; and ids come from doc values, since a stored
    field a hit would cost more than some of the searches.
    """
    body = search_body(terms, layout=layout, k=k, source=False)
    return body | {"track_total_hits": True, "stored_fields": "_none_", "docvalue_fields": ["id"]}


def search_in_turn(
    cluster: Cluster,
    bodies: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    warm_up: int = WARM_UP,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Searched]:
    """Send each index its next search in turn, forwards and backwards, so that a busy moment falls on all.

    Args:
        cluster: where.
        bodies: index, or several with commas → its searches; as many of each.
        warm_up: searches of each that are sent before, and not counted.
        on_progress: called with the number of searches of each that are done.

    Raises:
        ClusterError: an answer is incomplete.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    found = {index: Searched() for index in bodies}
    count = min(map(len, bodies.values()))
    for number in range(-warm_up, count):
        for index in list(bodies)[:: 1 if number % 2 else -1]:
            body = bodies[index][number % count]
            started = time.perf_counter()
            answer = cluster.request("POST", f"/{index}/_search", body=body, params={"request_cache": False})
            elapsed = time.perf_counter() - started
            if incomplete(answer):
                raise ClusterError(f"a search of {index} was incomplete: {answer.get('_shards')}; nothing was measured")
            if number >= 0:
                found[index].ms.append(1e3 * elapsed)
                found[index].took_ms.append(int(answer["took"]))
                found[index].touched.append(int(answer["hits"]["total"]["value"]))
                found[index].best.append([hit["_score"] for hit in answer["hits"]["hits"]])
        on_progress(max(0, number + 1))
    return found
