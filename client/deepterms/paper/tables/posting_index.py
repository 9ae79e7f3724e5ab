"""Lists: an index that holds posting lists and nothing else, which is all that a search by codewords reads.

It gets the layout's own template, so field, analysis and similarity are those of every index of deepterms. Only the
pipeline is left out, which would render in the cluster what is rendered here, and the stored source.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK
from deepterms.cluster.bulk import BulkLine
from deepterms.cluster.cluster import Cluster
from deepterms.deployment import deploy
from deepterms.errors import ClusterError, InvalidInput, RequestRejected
from deepterms.schema.layouts import Layout, find_layout
from deepterms.terms import TermFrequencies

__all__ = ["Lists", "layout_for_lists", "rendered"]

PREFIX = "bench"  # with what the names begin
POLL_SECONDS = 0.5


def layout_for_lists(cluster: Cluster, name: str | None = None) -> Layout:
    """The layout of that name, or the one that costs least to fill with term frequencies.

    The words of a document are K(K+1)/2, 80,200 at K = 400, so where the engine lacks ``frequencies`` it is
    ``rank_features``: the same scores.

    Raises:
        InvalidInput: no such layout, or one without term frequencies.
        UnsupportedEngine: the engine lacks it.
    """
    layout = find_layout(name or "frequencies")
    if name is None and not layout.runs_on(cluster.engine):
        layout = find_layout("rank_features")
    if layout.max_term_frequency == 1:
        raise InvalidInput(f"the layout {layout.name!r} holds {layout.holds}; take frequencies, words or features")
    layout.require_engine(cluster.engine)
    return layout


def rendered(terms: TermFrequencies, layout: Layout) -> list[str]:
    """What the layout's pipeline makes of each document's terms, as JSON."""
    if layout.name == "rank_features":
        return terms.to_json()
    if layout.name == "words":
        return [f'"{text}"' for text in terms.to_text()]
    return ['"' + text[2:-1].replace('":', "|").replace(',"', " ") + '"' for text in terms.to_json()]


@dataclass(frozen=True)
class Lists:
    """One such index.

    Attributes:
        cluster: where.
        layout: how codewords are stored.
        name: of the index, without what the layout puts before and after.
    """

    cluster: Cluster
    layout: Layout
    name: str

    @property
    def index(self) -> str:
        """The name in the cluster."""
        return self.layout.index_name(f"{PREFIX}-{self.name}")

    def count(self) -> int:
        """How many documents it holds; 0 if it is not there."""
        try:
            return int(self.cluster.request("GET", f"/{self.index}/_count")["count"])
        except RequestRejected as error:
            if error.status != 404:
                raise
            return 0

    def create(self, settings: dict[str, Any] | None = None) -> None:
        """Make it, empty; what is there already is deleted.

        Args:
            settings: of the index, beside those that make loading cheap.

        Raises:
            DeploymentConflict: the template in the cluster is another release's.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        deploy(self.cluster.client, layouts=[self.layout])
        self.drop()
        source: dict[str, Any] = {"excludes": ["*"]}
        if self.cluster.engine.name == "opensearch" and self.cluster.engine.version >= (2, 16, 0):
            source["recovery_source_enabled"] = False
        body = {
            "settings": {
                "number_of_shards": 1,
                "number_of_replicas": 0,
                "refresh_interval": "-1",
                "default_pipeline": "_none",
                "translog.durability": "async",
                **(settings or {}),
            },
            "mappings": {"_source": source},
        }
        self.cluster.request("PUT", f"/{self.index}", body=body)

    def add(self, start: int, terms: TermFrequencies, *, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Send documents, numbered from `start` on, in bulk requests; a future raises what went wrong."""
        futures = []
        for first in range(0, len(terms), DOCUMENTS_PER_BULK):
            piece = terms[first : first + DOCUMENTS_PER_BULK]
            lines: list[BulkLine] = [
                ({"index": {"_id": str(number)}}, f'{{"id":"{number}","codewords":{codewords}}}')
                for number, codewords in enumerate(rendered(piece, self.layout), start + first)
            ]
            futures.append(pool.submit(self._send, lines))
        return futures

    def _send(self, lines: list[BulkLine]) -> None:
        for identifier, why in self.cluster.bulk(lines, index=self.index).failed:
            raise ClusterError(f"document {identifier} of {self.index} was rejected: {why}")

    def merge(self) -> None:
        """Make one segment of each shard, visible to search; returns when it is done, however long that takes.

        Raises:
            ClusterError: it failed.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        self.cluster.request("POST", f"/{self.index}/_flush")
        answer = self.cluster.request(
            "POST", f"/{self.index}/_forcemerge", params={"max_num_segments": 1, "wait_for_completion": False}
        )
        while not (merging := self.cluster.request("GET", f"/_tasks/{answer['task']}"))["completed"]:
            time.sleep(POLL_SECONDS)
        if why := merging.get("error") or merging.get("response", {}).get("_shards", {}).get("failures"):
            raise ClusterError(f"{self.index} was not merged to one segment: {why}; nothing was measured")
        self.cluster.request("POST", f"/{self.index}/_refresh")

    def require_node(self, name: str) -> None:
        """Have its shards move to the node of that name."""
        self.cluster.request("PUT", f"/{self.index}/_settings", body={"index.routing.allocation.require._name": name})

    def size(self) -> int:
        """Bytes on the disk."""
        stats = self.cluster.request("GET", f"/{self.index}/_stats/store")
        return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])

    def drop(self) -> None:
        """Delete it; nothing happens if it is not there."""
        self.cluster.request("DELETE", f"/{self.index}", params={"ignore_unavailable": True})
