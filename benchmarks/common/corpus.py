"""Generate random descriptors and queries, and fill indices of a cluster with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cli.connection import connect
from deepterms.cluster.cluster import Cluster

__all__ = ["Corpus", "format_milliseconds", "merge"]


class Corpus:
    """Descriptors with ids, queries, and the cluster to index them in; the same in every run.

    Args:
        url: of the cluster.
        documents: number of descriptors.
        dimensions: descriptor length.
        top_k: K of the encoder.
        queries: number of queries.
        centres: number of cluster centres for descriptors and queries, so that they have neighbours; 0 makes all of
            them independent.

    Attributes:
        encoder: a deep permutation.
        ids: ``0``, ``1``, … in the order of the descriptors.
        features: float32 (documents, dimensions).
        queries: float32 (queries, dimensions).
    """

    def __init__(
        self, url: str, *, documents: int, dimensions: int, top_k: int, queries: int = 0, centres: int = 0
    ) -> None:
        self._client = connect(url)
        dt.deploy(self._client)
        self.encoder = dt.DeepPermutation(dimensions, top_k=top_k)
        rng = np.random.default_rng(0)
        drawn: NDArray[np.float32] = rng.standard_normal((documents + queries, dimensions), dtype=np.float32)
        if centres:
            points = rng.standard_normal((centres, dimensions), dtype=np.float32)
            drawn += points[rng.integers(0, centres, len(drawn))]
        self.ids = [str(number) for number in range(documents)]
        self.features, self.queries = drawn[:documents], drawn[documents:]

    def __str__(self) -> str:
        engine = Cluster(self._client).engine
        return f"{engine}, {len(self.ids)} documents, D={self.encoder.dimensions}, K={self.encoder.top_k}"

    def create(self, name: str, **options: Any) -> dt.SurrogateIndex:
        """Create an empty index without replicas; options as in `SurrogateIndex.create`."""
        return dt.SurrogateIndex.create(self._client, name, **{"encoder": self.encoder, "replicas": 0, **options})

    def add_to(
        self,
        index: dt.SurrogateIndex | dt.MemoryIndex,
        *,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> float:
        """Encode and add every document; return documents per second."""
        started = time.perf_counter()
        report = index.add(self.ids, self.features, metadata, **options)
        rate = len(self.ids) / (time.perf_counter() - started)
        assert report.succeeded == len(self.ids), report.failed[:1]
        return rate


def merge(index: dt.SurrogateIndex) -> None:
    """Merge each shard into one segment, so that all searches run on the same segments."""
    index.cluster.request("POST", f"/{index.name}/_forcemerge", params={"max_num_segments": 1})
    index.refresh()


def format_milliseconds(times: Sequence[float]) -> str:
    """Format milliseconds as p50 and, in parentheses, p95."""
    return f"{median(times):6.2f} ({np.quantile(times, 0.95):6.2f})"
