"""Measure Table 1 of the paper: milliseconds per exhaustive search by K on one node, compared with a lower bound."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, InvalidInput
from deepterms.paper.tables.lower_bound import ScanResult, scan_postings
from deepterms.paper.tables.posting_index import PostingIndex
from deepterms.paper.tables.synthetic import CHUNK, SyntheticCollection
from deepterms.paper.tables.timed_searches import (
    Progress,
    TimedSearches,
    build_exhaustive_body,
    ignore_progress,
    search_in_turn,
)
from deepterms.schema.layouts import Layout

__all__ = ["PAPER_MS", "Table1"]

# Milliseconds per query in the paper's Table 1: bare Lucene, a million images, V = 4,096; other K are unknown.
PAPER_MS: Mapping[int, float] = {42: 51.0, 100: 155.0, 400: 1_381.0}
PAPER_DOCUMENTS = 1_000_000
THREADS = 2  # concurrent bulk requests
# Scores are sums of integers; the engine adds them in float64 and returns float32, which is exact only up to 2^24.
SCORE_ERROR = 2.0**-23


@dataclass(frozen=True)
class Table1:
    """One index per K, filled with the same documents and searched with the same queries.

    Attributes:
        cluster: to measure; should be otherwise idle.
        collection: documents and queries.
        layout: how codewords are stored, as returned by `choose_layout`.
    """

    cluster: Cluster
    collection: SyntheticCollection
    layout: Layout

    @property
    def indices(self) -> dict[int, PostingIndex]:
        """K → its index, whose name describes the content."""
        made = self.collection
        return {
            top_k: PostingIndex(self.cluster, self.layout, f"{made.documents}-d{made.dimensions}-s{made.seed}-k{top_k}")
            for top_k in made.top_ks
        }

    def load(self, *, on_progress: Progress = ignore_progress) -> list[int]:
        """Fill all incomplete indices in one pass and merge each into one segment.

        Returns:
            The values of K whose index was filled.

        Raises:
            ClusterError: a document was rejected.
            ClusterUnreachable, RequestRejected: the cluster did not answer or rejected a request.
        """
        documents = self.collection.documents
        missing = {top_k: index for top_k, index in self.indices.items() if index.count() != documents}
        for index in missing.values():
            index.create()
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-bulk") as pool:
            try:
                for start, chunk in self.collection.chunks() if missing else ():
                    for top_k, index in missing.items():
                        sent = index.add(start, chunk[top_k], pool=pool)
                        for future in waiting:  # keeps the pool busy with at most two batches
                            future.result()
                        waiting = sent
                    on_progress("loading", min(start + CHUNK, documents), documents)
                for future in waiting:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
        for done, index in enumerate(missing.values(), start=1):
            index.merge()
            on_progress("merging", done, len(missing))
        return list(missing)

    def measure(self, *, queries: int, hits: int, on_progress: Progress = ignore_progress) -> list[dict[str, Any]]:
        """Search all indices, then scan the same posting lists.

        Args:
            queries: number of queries; none of them equals a document.
            hits: number of hits per search.
            on_progress: called with the current step, the amount done, and the total.

        Returns:
            One row per K: ``top_k``, ``mean_ms``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``postings`` and ``touched``
            documents (means over the queries), ``ns_per_posting``, ``limit_ms``, ``limit_ns_per_posting``,
            ``ratio_to_limit``, ``bytes`` of the index, and ``paper_ms``: the paper's time for a million documents, or
            None.

        Raises:
            InvalidInput: there are fewer documents than hits, or no queries or hits are requested.
            ClusterError: the engine's hits differ from those of the scan, so the times are not comparable.
            MissingExtra: numba is not installed.
            ClusterUnreachable, RequestRejected: the cluster did not answer or rejected a request.
        """
        documents = self.collection.documents
        if not 1 <= hits <= documents or queries < 1:
            raise InvalidInput(
                f"got {queries} queries and {hits} hits; expected at least 1 query and 1 to {documents} hits, "
                "the number of documents"
            )
        asked = self.collection.queries(queries)
        bodies = {
            index.full_name: [
                build_exhaustive_body(asked[top_k][row : row + 1], layout=self.layout, k=hits) for row in range(queries)
            ]
            for top_k, index in self.indices.items()
        }
        searched = search_in_turn(
            self.cluster, bodies, on_progress=lambda done: on_progress("searching", done, queries)
        )
        scanned = scan_postings(
            self.collection,
            queries=queries,
            k=hits,
            on_progress=lambda done: on_progress("scanning", done, documents),
        )
        rows = []
        for top_k, index in self.indices.items():
            _require_same_hits(searched[index.full_name], scanned[top_k], index=index.full_name)
            row = _build_row(top_k, searched[index.full_name], scanned[top_k])
            rows.append(row | {"bytes": index.measure_bytes()})
        return rows

    def drop(self) -> None:
        """Delete the indices."""
        for index in self.indices.values():
            index.drop()


def _build_row(top_k: int, searched: TimedSearches, scanned: ScanResult) -> dict[str, Any]:
    times = searched.summarize()
    postings, limit_ms = float(scanned.postings.mean()), 1e3 * float(scanned.seconds.mean())
    return {
        "top_k": top_k,
        **times,
        "postings": postings,
        "touched": float(scanned.touched.mean()),
        "ns_per_posting": 1e6 * times["mean_ms"] / postings,
        "limit_ms": limit_ms,
        "limit_ns_per_posting": 1e6 * limit_ms / postings,
        "ratio_to_limit": times["mean_ms"] / limit_ms,
        "paper_ms": PAPER_MS.get(top_k),
    }


def _require_same_hits(searched: TimedSearches, scanned: ScanResult, *, index: str) -> None:
    """Raise ClusterError unless every query matched the same number of documents with the same top scores."""
    for number, (touched, best) in enumerate(zip(searched.touched, searched.best, strict=True)):
        if touched != scanned.touched[number]:
            raise ClusterError(
                f"query {number} matched {touched} documents in {index}, but {scanned.touched[number]} documents of "
                "the collection share a codeword with it; the index has different content; delete it and load it again"
            )
        expected = scanned.best[number][: min(touched, len(scanned.best[number]))]
        if len(best) != len(expected) or not np.allclose(best, expected, rtol=SCORE_ERROR, atol=0):
            raise ClusterError(
                f"query {number} has different scores in {index} than in a scan of the same documents: got {best[:3]}, "
                f"expected {expected[:3].tolist()}; delete the index and load it again"
            )
