"""Examination: from a cluster to findings, up to probe documents that must be found with exact scores."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import OPEN_AND_CLOSED
from deepterms.cluster.responses import is_closed
from deepterms.deployment import plan
from deepterms.doctor.findings import (
    Finding,
    judge_clauses,
    judge_closed,
    judge_engine,
    judge_generations,
    judge_health,
    judge_heap,
    judge_ingest,
    judge_missing_pipeline,
    judge_nameless,
    judge_orphaned_pipelines,
    judge_refresh,
    judge_resources,
    judge_segments,
    judge_space,
    judge_writes,
)
from deepterms.doctor.pivot_examination import examine_pivots, find_orphans
from deepterms.doctor.tuning_findings import judge_tuning
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.errors import ClusterError, ClusterUnreachable, IndexNotFound, RequestRejected, UnsupportedEngine
from deepterms.index import SurrogateIndex
from deepterms.schema.index_spec import IndexMeta, read_meta
from deepterms.schema.layouts import LAYOUTS, Layout
from deepterms.schema.tuning import Tuning
from deepterms.storage.pivot_index import find_owner

__all__ = ["examine"]

# A descriptor whose ranks and score can be checked by hand: its four largest components in magnitude have frequencies
# 4, 3, 2 and 1, so it scores 16 + 9 + 4 + 1 with itself.
PROBE = np.array([0.1, -0.9, 0.7, 0.0, 0.5, -0.3, 0.05, 0.02], dtype=np.float32)
PROBE_K = 4
COSINE_TOLERANCE = 1e-5

CONCRETE = re.compile(r"deepterms-[a-z_]+-v\d+-(.+)-\d{6}")


def examine(client: Any, name: str | None = None) -> tuple[Finding, ...]:
    """Examine a cluster and its indices without changing them; only small probe indices are created and deleted.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: examine only this index; default: all indices of deepterms.

    Returns:
        Findings in a fixed order. A check that the user lacks the privilege for gives a yellow finding.

    Raises:
        ClusterUnreachable: the cluster did not respond.
        IndexNotFound: there is no index of that name.
    """
    return tuple(Examination(Cluster(client), name).run())


class Examination:
    """Queries the cluster; the functions of `deepterms.doctor.findings` judge its responses."""

    def __init__(self, cluster: Cluster, name: str | None) -> None:
        self.cluster = cluster
        self.name = name

    def run(self) -> Iterator[Finding]:
        """Yield all findings, in order."""
        engine = self.cluster.engine
        yield judge_engine(engine)
        indices: dict[str, dict[str, Any]] = {}
        # Listed first, as the clause limit depends on the indices; reported after the nodes.
        listing = list(
            self._attempt("indices", "view_index_metadata on deepterms-*", lambda: self._list_indices(indices))
        )
        layouts = [layout for layout in LAYOUTS if layout.runs_on(engine)]
        if layouts:
            yield from self._attempt("templates", "read_pipeline and manage_index_templates", self._check_resources)
        largest = max((_read_query_length(metas[live]) for live, metas in map(_split, indices.values())), default=0)
        yield from self._attempt("clause limit", "monitor", lambda: self._check_clauses(largest))
        yield from self._attempt("nodes", "monitor", self._check_nodes)
        yield from listing
        yield from self._attempt("pipelines", "read_pipeline", self._check_orphaned_pipelines)
        for name, found in sorted(indices.items()):
            live, metas = _split(found)
            yield from self._attempt(name, "monitor on the index", partial(self._check_index, name, live, metas))
            yield from self._attempt(name, "read_pipeline", partial(self._check_pipeline, name, live))
            yield from self._attempt(
                name, "read and monitor on the index", partial(self._check_recall, name, live, metas)
            )
        for layout in layouts:
            yield from self._probe_layout(layout)

    def _attempt(self, subject: str, privilege: str, ask: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """Yield the findings of a check, or a yellow one if the user lacks the privilege for it."""
        try:
            yield from ask()
        except IndexNotFound:
            raise
        except ClusterUnreachable:
            raise
        except RequestRejected as error:
            if error.status in (401, 403):
                advice = f"rerun as a user with the privilege {privilege}"
                yield Finding("yellow", subject, "not checked: this user lacks the privilege", advice)
            else:
                yield Finding("red", subject, str(error), "the engine should accept this request; check its log")
        except ClusterError as error:  # such as a shard without a copy, which judge_health reports
            yield Finding("red", subject, str(error), "rerun when all shards are available")

    def _check_resources(self) -> Iterator[Finding]:
        yield judge_resources(plan(self.cluster.client).changes)

    def _check_clauses(self, largest: int) -> Iterator[Finding]:
        settings = {"transient": {}, "persistent": {}, "defaults": {}} | self.cluster.request(
            "GET", "/_cluster/settings", params={"include_defaults": True, "flat_settings": True}
        )
        yield judge_clauses(self.cluster.engine, settings, largest=largest)

    def _check_nodes(self) -> Iterator[Finding]:
        nodes = self.cluster.request("GET", "/_nodes/stats/jvm,fs")["nodes"]
        yield judge_ingest(nodes)
        yield judge_heap(nodes)
        yield judge_space(nodes)

    def _list_indices(self, found: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        """Fill `found` with name → {live: concrete index, metas: concrete index → its metadata}."""
        answer = self.cluster.request("GET", "/deepterms-*", params=OPEN_AND_CLOSED)
        yield from find_orphans(answer, self.name)
        for concrete, body in sorted(answer.items()):
            meta = read_meta(body) or {}
            match = CONCRETE.fullmatch(concrete)
            if match and find_owner(concrete) is None and "encoder" in meta and self.name in (None, match[1]):
                try:
                    parsed = IndexMeta.parse(meta, name=concrete)
                except ClusterError as error:
                    yield Finding("red", match[1], str(error), "use the release that created the index")
                    continue
                entry = found.setdefault(match[1], {"live": "", "metas": {}})
                entry["metas"][concrete] = parsed
                if match[1] in body["aliases"]:
                    entry["live"] = concrete
        reported = 0
        for name, entry in sorted(found.items()):
            if not entry["live"]:
                problem = judge_nameless(name, entry["metas"])
            elif is_closed(answer[entry["live"]]):
                problem = judge_closed(name, entry["live"])
            else:
                continue
            del found[name]  # nothing else about it can be examined
            reported += 1
            yield problem
        if self.name is not None and self.name not in found and not reported:
            raise IndexNotFound(
                f"no index {self.name!r} in the cluster; check the name, or omit it to examine all indices"
            )
        if not found and not reported:
            yield Finding("green", "indices", "no indices yet")

    def _check_index(self, name: str, live: str, metas: Mapping[str, IndexMeta]) -> Iterator[Finding]:
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

    def _check_pipeline(self, name: str, live: str) -> Iterator[Finding]:
        settings = self.cluster.request("GET", f"/{live}/_settings")[live]["settings"]["index"]
        pipeline = settings.get("default_pipeline", "")
        if pipeline == live and pipeline not in self.cluster.find(f"/_ingest/pipeline/{live}"):
            yield judge_missing_pipeline(name, pipeline)

    def _check_orphaned_pipelines(self) -> Iterator[Finding]:
        indices = self.cluster.request("GET", "/deepterms-*", params=OPEN_AND_CLOSED)
        owned = [
            match for held in self.cluster.find("/_ingest/pipeline/deepterms-*") if (match := CONCRETE.fullmatch(held))
        ]
        names = sorted({match[1] for match in owned if match[0] not in indices and self.name in (None, match[1])})
        if names:
            yield judge_orphaned_pipelines(names)

    def _check_recall(self, name: str, live: str, metas: Mapping[str, IndexMeta]) -> Iterator[Finding]:
        """Examine the pivots, and whether what was measured with them still applies."""
        drifted = False
        for finding in examine_pivots(self.cluster, name, live, metas):
            drifted = drifted or (finding.level == "yellow" and "--repivot" in finding.advice)
            yield finding
        meta = metas[live]
        documents = int(self.cluster.request("POST", f"/{live}/_count")["count"])
        if meta.vector_type is not None and documents:
            yield judge_tuning(name, Tuning.parse(meta.tuning), documents=documents, drifted=drifted)

    def _probe_layout(self, layout: Layout) -> Iterator[Finding]:
        """Index one document encoded by the client and one by the pipeline, and find both with exact scores."""
        subject = f"probe {layout.name}"
        encoder = DeepPermutation(len(PROBE), top_k=PROBE_K, binary=layout.max_term_frequency == 1)
        expected = int((encoder.encode(PROBE).matrix.data.astype(np.int64) ** 2).sum())
        name = f"doctor-{os.getpid()}"
        advice = "run `deepterms check`; indices of this layout do not work"
        index = None
        try:
            index = SurrogateIndex.create(
                self.cluster.client, name, encoder=encoder, layout=layout.name, replicas=0, shards=1
            )
            report = index.add(["probe"], PROBE[np.newaxis])
            if report.failed:
                yield Finding("red", subject, f"the document was rejected: {report.failed[0].reason}", advice)
                return
            path = f"/{name}/_doc/raw"
            self.cluster.request("PUT", path, body={"vector": PROBE.tolist()}, params={"refresh": True})
            scores = {hit.id: hit.score for hit in index.search(PROBE, rerank=0)}
            cosines = {hit.id: hit.score for hit in index.search(PROBE)}
            exact = all(abs(cosine - 1) < COSINE_TOLERANCE for cosine in cosines.values())
            if scores == {"probe": expected, "raw": expected} and len(cosines) == 2 and exact:
                yield Finding("green", subject, f"found with score {expected} and cosine 1")
            else:
                found = f"found with scores {scores} and cosines {cosines}; expected {expected} and 1 for both"
                yield Finding("red", subject, found, advice)
        except ClusterUnreachable:
            raise
        except RequestRejected as error:
            allowed = error.status not in (401, 403)
            again = "rerun as a user who may create and delete deepterms-* indices, or ignore this line"
            yield Finding("red" if allowed else "yellow", subject, str(error), advice if allowed else again)
        except (ClusterError, UnsupportedEngine) as error:
            text, _, advised = str(error).partition("; ")
            yield Finding("red", subject, text, advised or "run `deepterms deploy`")
        finally:
            if index is not None:
                index.drop()


def _split(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, IndexMeta]]:
    return entry["live"], entry["metas"]


def _read_query_length(meta: IndexMeta) -> int:
    """Return the largest number of codewords in a query of the index, from its metadata."""
    return int(meta.encoder.get("query_top_k", meta.encoder.get("top_k", 0)))
