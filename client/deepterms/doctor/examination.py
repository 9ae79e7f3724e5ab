"""Doctor: a cluster examined for search by surrogate text, up to a document that must be found with an exact score."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import meta_of
from deepterms.deployment import plan
from deepterms.doctor.findings import (
    Finding,
    judge_clauses,
    judge_engine,
    judge_generations,
    judge_health,
    judge_heap,
    judge_ingest,
    judge_refresh,
    judge_resources,
    judge_segments,
    judge_space,
    judge_writes,
)
from deepterms.doctor.pivot_examination import examine_pivots, find_orphans
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import ClusterError, ClusterUnreachable, IndexNotFound, RequestRejected, UnsupportedEngine
from deepterms.index import SurrogateIndex
from deepterms.schema.layouts import LAYOUTS, Layout
from deepterms.storage.pivot_index import owner_of

__all__ = ["examine"]

# A descriptor whose ranks and score can be checked by hand: the four largest components in magnitude have frequencies
# 4, 3, 2 and 1, so with itself it scores 16 + 9 + 4 + 1.
PROBE = np.array([0.1, -0.9, 0.7, 0.0, 0.5, -0.3, 0.05, 0.02], dtype=np.float32)
PROBE_K = 4
COSINE_TOLERANCE = 1e-5


def examine(client: Any, name: str | None = None) -> tuple[Finding, ...]:
    """Look at a cluster and its indices; nothing is changed, but for a small index that is made and deleted.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: only this index; default: all that deepterms made.

    Returns:
        Findings in a fixed order. What the user may not ask is a yellow one.

    Raises:
        ClusterUnreachable: no answer.
        IndexNotFound: no index of that name.
    """
    return tuple(Examination(Cluster(client), name).findings())


class Examination:
    """Asks the questions; the functions of `deepterms.doctor.findings` judge the answers."""

    def __init__(self, cluster: Cluster, name: str | None) -> None:
        self.cluster = cluster
        self.name = name

    def findings(self) -> Iterator[Finding]:
        """All findings, in order."""
        engine = self.cluster.engine
        yield judge_engine(engine)
        indices: dict[str, dict[str, Any]] = {}
        unasked = list(self._asked("indices", "view_index_metadata on deepterms-*", lambda: self._indices(indices)))
        layouts = [layout for layout in LAYOUTS if layout.runs_on(engine)]
        if layouts:
            yield from self._asked("templates", "read_pipeline and manage_index_templates", self._resources)
        largest = max((_query_length(metas[live]) for live, metas in map(_live, indices.values())), default=0)
        yield from self._asked("clause limit", "monitor", lambda: self._clauses(largest))
        yield from self._asked("nodes", "monitor", self._nodes)
        yield from unasked
        for name, found in sorted(indices.items()):
            live, metas = _live(found)
            yield from self._asked(name, "monitor on the index", partial(self._index, name, live, metas))
            yield from self._asked(
                name, "read and monitor on the index", partial(examine_pivots, self.cluster, name, live, metas)
            )
        for layout in layouts:
            yield from self._probe(layout)

    def _asked(self, subject: str, privilege: str, ask: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """Findings; a yellow one instead where the user may not ask."""
        try:
            yield from ask()
        except RequestRejected as error:
            if error.status in (401, 403):
                yield Finding(
                    "yellow", subject, "this user may not ask", f"ask as a user with the privilege {privilege}"
                )
            else:
                yield Finding("red", subject, str(error), "the engine should answer this; look at its log")

    def _resources(self) -> Iterator[Finding]:
        yield judge_resources(plan(self.cluster.client).changes)

    def _clauses(self, largest: int) -> Iterator[Finding]:
        settings = {"transient": {}, "persistent": {}, "defaults": {}} | self.cluster.request(
            "GET", "/_cluster/settings", params={"include_defaults": True, "flat_settings": True}
        )
        yield judge_clauses(self.cluster.engine, settings, largest=largest)

    def _nodes(self) -> Iterator[Finding]:
        nodes = self.cluster.request("GET", "/_nodes/stats/jvm,fs")["nodes"]
        yield judge_ingest(nodes)
        yield judge_heap(nodes)
        yield judge_space(nodes)

    def _indices(self, found: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        """Fill in name → {live: concrete index, metas: concrete index → what it says of itself}."""
        answer = self.cluster.request("GET", "/deepterms-*")
        yield from find_orphans(answer, self.name)
        pattern = re.compile(r"deepterms-[a-z_]+-v\d+-(.+)-\d{6}")
        for concrete, body in sorted(answer.items()):
            meta = meta_of(body) or {}
            match = pattern.fullmatch(concrete)
            if match and owner_of(concrete) is None and "encoder" in meta and self.name in (None, match[1]):
                entry = found.setdefault(match[1], {"live": "", "metas": {}})
                entry["metas"][concrete] = meta
                if match[1] in body["aliases"]:
                    entry["live"] = concrete
        for name in [name for name, entry in found.items() if not entry["live"]]:
            orphans = ", ".join(found.pop(name)["metas"])
            yield Finding("yellow", name, f"no alias points to {orphans}", "delete it, or point the alias to it")
        if self.name is not None and self.name not in found:
            raise IndexNotFound(f"no index {self.name!r} of deepterms in the cluster")
        if not found:
            yield Finding("green", "indices", "none yet")

    def _index(self, name: str, live: str, metas: Mapping[str, Any]) -> Iterator[Finding]:
        yield judge_health(name, self.cluster.request("GET", f"/_cluster/health/{live}"))
        settings = self.cluster.request("GET", f"/{live}/_settings")[live]["settings"]["index"]
        if blocked := judge_writes(name, settings):
            yield blocked
        yield judge_refresh(name, settings)
        stats = self.cluster.request("GET", f"/{live}/_stats/docs,segments,merge,store")["indices"][live]["primaries"]
        yield judge_segments(name, stats, shards=int(settings["number_of_shards"]))
        others = {concrete: meta for concrete, meta in metas.items() if concrete != live}
        if kept := judge_generations(name, others, live=live):
            yield kept

    def _probe(self, layout: Layout) -> Iterator[Finding]:
        """Index one document as this client does and one as curl would, and find both with exact scores."""
        subject = f"probe {layout.name}"
        encoder = DeepPermutation(len(PROBE), top_k=PROBE_K, binary=layout.max_term_frequency == 1)
        expected = int((encoder.encode(PROBE).matrix.data.astype(np.int64) ** 2).sum())
        name = f"doctor-{os.getpid()}"
        advice = "run `deepterms check`; an index of this layout would not work"
        index = None
        try:
            index = SurrogateIndex.create(
                self.cluster.client, name, encoder=encoder, layout=layout.name, replicas=0, shards=1
            )
            report = index.add(["probe"], PROBE[np.newaxis])
            if report.failed:
                yield Finding("red", subject, f"the document is refused: {report.failed[0].reason}", advice)
                return
            path = f"/{name}/_doc/raw"
            self.cluster.request("PUT", path, body={"vector": PROBE.tolist()}, params={"refresh": True})
            scores = {hit.id: hit.score for hit in index.search(PROBE, rerank=0)}
            cosines = {hit.id: hit.score for hit in index.search(PROBE)}
            exact = all(abs(cosine - 1) < COSINE_TOLERANCE for cosine in cosines.values())
            if scores == {"probe": expected, "raw": expected} and len(cosines) == 2 and exact:
                yield Finding("green", subject, f"found with the score {expected} and the cosine 1")
            else:
                found = f"found with the scores {scores}, cosines {cosines}; expected {expected} and 1 for both"
                yield Finding("red", subject, found, advice)
        except ClusterUnreachable:
            raise
        except RequestRejected as error:
            allowed = error.status not in (401, 403)
            again = "ask as a user who may make and delete deepterms-* indices, or pass over it"
            yield Finding("red" if allowed else "yellow", subject, str(error), advice if allowed else again)
        except (ClusterError, UnsupportedEngine) as error:
            yield Finding("red", subject, str(error), "run `deepterms deploy`")
        finally:
            if index is not None:
                index.drop()


def _live(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return entry["live"], entry["metas"]


def _query_length(meta: Mapping[str, Any]) -> int:
    """How many codewords a query of the index has at most."""
    return int(meta["encoder"].get("query_top_k", meta["encoder"].get("top_k", 0)))
