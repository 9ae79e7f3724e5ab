"""Turn term frequencies into an index that holds only posting lists, which is all that a search by codewords reads.

The index uses the layout's template, so field, analysis and similarity match every other deepterms index. It skips the
ingest pipeline, because codewords are rendered in the client, and stores no source.
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

__all__ = ["PostingIndex", "choose_layout", "render_codewords"]

PREFIX = "bench"  # of the index names
POLL_SECONDS = 0.5


def choose_layout(cluster: Cluster, name: str | None = None) -> Layout:
    """Return the named layout, or the one that is cheapest to fill with term frequencies.

    The default is ``frequencies`` or, if the engine lacks it, ``rank_features``, which gives the same scores. ``words``
    would need K(K+1)/2 words per document, 80,200 at K = 400.

    Raises:
        InvalidInput: the layout does not exist or stores no term frequencies.
        UnsupportedEngine: the engine does not support the layout.
    """
    layout = find_layout(name or "frequencies")
    if name is None and not layout.runs_on(cluster.engine):
        layout = find_layout("rank_features")
    if layout.max_term_frequency == 1:
        raise InvalidInput(
            f"the layout {layout.name!r} holds {layout.holds}; choose frequencies, words or rank_features"
        )
    layout.require_engine(cluster.engine)
    return layout


def render_codewords(terms: TermFrequencies, layout: Layout) -> list[str]:
    """Render each document's terms as JSON, exactly as the layout's pipeline does."""
    if layout.name == "rank_features":
        return terms.to_json()
    if layout.name == "words":
        return [f'"{text}"' for text in terms.to_text()]
    return ['"' + text[2:-1].replace('":', "|").replace(',"', " ") + '"' for text in terms.to_json()]


@dataclass(frozen=True)
class PostingIndex:
    """An index of posting lists only.

    Attributes:
        cluster: that holds the index.
        layout: how codewords are stored.
        name: of the index, without the prefix and suffix that the layout adds.
    """

    cluster: Cluster
    layout: Layout
    name: str

    @property
    def full_name(self) -> str:
        """Name of the index in the cluster."""
        return self.layout.index_name(f"{PREFIX}-{self.name}")

    def count(self) -> int:
        """Count the documents; 0 if the index does not exist."""
        try:
            return int(self.cluster.request("GET", f"/{self.full_name}/_count")["count"])
        except RequestRejected as error:
            if error.status != 404:
                raise
            return 0

    def create(self, settings: dict[str, Any] | None = None) -> None:
        """Create the index, empty; an existing one is deleted.

        Args:
            settings: of the index, in addition to those that make loading cheap.

        Raises:
            DeploymentConflict: the template in the cluster belongs to another release.
            ClusterUnreachable, RequestRejected: the cluster did not answer or rejected a request.
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
        self.cluster.request("PUT", f"/{self.full_name}", body=body)

    def add(self, start: int, terms: TermFrequencies, *, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Send documents, numbered from `start`, in bulk requests; the futures raise any error."""
        futures = []
        for first in range(0, len(terms), DOCUMENTS_PER_BULK):
            piece = terms[first : first + DOCUMENTS_PER_BULK]
            lines: list[BulkLine] = [
                ({"index": {"_id": str(number)}}, f'{{"id":"{number}","codewords":{codewords}}}')
                for number, codewords in enumerate(render_codewords(piece, self.layout), start + first)
            ]
            futures.append(pool.submit(self._send, lines))
        return futures

    def _send(self, lines: list[BulkLine]) -> None:
        for identifier, reason in self.cluster.bulk(lines, index=self.full_name).failed:
            raise ClusterError(f"document {identifier} of {self.full_name} was rejected: {reason}")

    def merge(self) -> None:
        """Merge each shard into one segment and refresh; wait until that is done, however long it takes.

        Raises:
            ClusterError: the merge failed.
            ClusterUnreachable, RequestRejected: the cluster did not answer or rejected a request.
        """
        self.cluster.request("POST", f"/{self.full_name}/_flush")
        answer = self.cluster.request(
            "POST", f"/{self.full_name}/_forcemerge", params={"max_num_segments": 1, "wait_for_completion": False}
        )
        while not (merging := self.cluster.request("GET", f"/_tasks/{answer['task']}"))["completed"]:
            time.sleep(POLL_SECONDS)
        if reason := merging.get("error") or merging.get("response", {}).get("_shards", {}).get("failures"):
            raise ClusterError(f"{self.full_name} was not merged into one segment: {reason}; nothing was measured")
        self.cluster.request("POST", f"/{self.full_name}/_refresh")

    def require_node(self, name: str) -> None:
        """Move the shards to the node with this name."""
        settings = {"index.routing.allocation.require._name": name}
        self.cluster.request("PUT", f"/{self.full_name}/_settings", body=settings)

    def measure_bytes(self) -> int:
        """Return the size on disk in bytes."""
        stats = self.cluster.request("GET", f"/{self.full_name}/_stats/store")
        return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])

    def drop(self) -> None:
        """Delete the index if it exists."""
        self.cluster.request("DELETE", f"/{self.full_name}", params={"ignore_unavailable": True})
