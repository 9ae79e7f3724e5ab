"""Table 1 of the paper: milliseconds of an exhaustive search by K, on one node, beside the physical limit."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, InvalidInput
from deepterms.paper.tables.lower_bound import Scanned, scan
from deepterms.paper.tables.posting_index import Lists
from deepterms.paper.tables.progress import Progress, silent
from deepterms.paper.tables.synthetic import CHUNK, Collection
from deepterms.paper.tables.timed_searches import Searched, exhaustive_body, search_in_turn
from deepterms.schema.layouts import Layout

__all__ = ["PAPER_MS", "Table1"]

# Milliseconds a query of the paper's Table 1: bare Lucene, a million images, V = 4,096. What is not here is not known.
PAPER_MS: Mapping[int, float] = {42: 51.0, 100: 155.0, 400: 1_381.0}
PAPER_DOCUMENTS = 1_000_000
THREADS = 2  # bulk requests under way at once
# Scores are sums of whole numbers; the engine adds them in double and returns float32, exact up to 2^24 only.
SCORE_ERROR = 2.0**-23


@dataclass(frozen=True)
class Table1:
    """An index for each K, filled with the same documents and searched by the same queries.

    Attributes:
        cluster: where; nothing else should be going on there.
        collection: the documents.
        layout: how codewords are stored, as `layout_for_lists` says.
    """

    cluster: Cluster
    collection: Collection
    layout: Layout

    @property
    def indices(self) -> dict[int, Lists]:
        """K → its index; the name says what is in it."""
        made = self.collection
        return {
            top_k: Lists(self.cluster, self.layout, f"{made.documents}-d{made.dimensions}-s{made.seed}-k{top_k}")
            for top_k in made.top_ks
        }

    def load(self, *, on_progress: Progress = silent) -> list[int]:
        """Fill the indices that are not complete yet, all in one pass, and merge each to one segment.

        Returns:
            The K that were filled.

        Raises:
            ClusterError: a document was refused.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        missing = {top_k: lists for top_k, lists in self.indices.items() if lists.count() != self.collection.documents}
        for lists in missing.values():
            lists.create()
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-bulk") as pool:
            try:
                for start, chunk in self.collection.chunks() if missing else ():
                    for top_k, lists in missing.items():
                        sent = lists.add(start, chunk[top_k], pool=pool)
                        for future in waiting:  # the pool has the next lot by now, and never more than two
                            future.result()
                        waiting = sent
                    on_progress("loading", min(start + CHUNK, self.collection.documents), self.collection.documents)
                for future in waiting:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)
        for done, lists in enumerate(missing.values(), start=1):
            lists.merge()
            on_progress("merging", done, len(missing))
        return list(missing)

    def measure(self, *, queries: int, hits: int, on_progress: Progress = silent) -> list[dict[str, Any]]:
        """Search, then scan the same lists; one row for each K.

        Args:
            queries: how many, of which none is a document.
            hits: how many the engine returns of each.
            on_progress: called with what is done, how much of it, and of how much.

        Returns:
            Of each K: ``top_k``, ``mean_ms``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``postings`` (mean, a query),
            ``touched`` (documents), ``ns_per_posting``, ``limit_ms``, ``limit_ns_per_posting``, ``ratio_to_limit``,
            ``bytes`` of the index; ``paper_ms``: the paper's, of a million documents, or None.

        Raises:
            InvalidInput: fewer documents than hits.
            ClusterError: the engine does not find what the scan finds, so the two times are not of the same work.
            MissingExtra: numba is not installed.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        if not 1 <= hits <= self.collection.documents or queries < 1:
            raise InvalidInput(
                f"{queries} queries, {hits} hits; expected 1 or more, and hits of {self.collection.documents} documents"
            )
        asked = self.collection.queries(queries)
        bodies = {
            lists.index: [
                exhaustive_body(asked[top_k][row : row + 1], layout=self.layout, k=hits) for row in range(queries)
            ]
            for top_k, lists in self.indices.items()
        }
        searched = search_in_turn(
            self.cluster, bodies, on_progress=lambda done: on_progress("searching", done, queries)
        )
        documents = self.collection.documents
        scanned = scan(
            self.collection,
            queries=queries,
            k=hits,
            on_progress=lambda done: on_progress("scanning", done, documents),
        )
        rows = []
        for top_k, lists in self.indices.items():
            _require_same(searched[lists.index], scanned[top_k], index=lists.index)
            rows.append(_row(top_k, searched[lists.index], scanned[top_k]) | {"bytes": lists.size()})
        return rows

    def drop(self) -> None:
        """Delete the indices."""
        for lists in self.indices.values():
            lists.drop()


def _row(top_k: int, searched: Searched, scanned: Scanned) -> dict[str, Any]:
    times = searched.figures()
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


def _require_same(searched: Searched, scanned: Scanned, *, index: str) -> None:
    """Raise ClusterError unless every query touched the same number of documents and has the same best scores."""
    for number, (touched, best) in enumerate(zip(searched.touched, searched.best, strict=True)):
        if touched != scanned.touched[number]:
            raise ClusterError(
                f"query {number} matched {touched} documents of {index}, and {scanned.touched[number]} of the "
                "collection share a codeword with it; the index holds something else, so delete it and load it again"
            )
        expected = scanned.best[number][: min(touched, len(scanned.best[number]))]
        if len(best) != len(expected) or not np.allclose(best, expected, rtol=SCORE_ERROR, atol=0):
            raise ClusterError(
                f"query {number} has other scores in {index} than a scan of the same documents gives: {best[:3]}, "
                f"expected {expected[:3].tolist()}; delete the index and load it again"
            )
