"""Measure Table 2 of the paper: milliseconds per search by nodes and shares of the documents, and a latency model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.advice.costs import Observation
from deepterms.cluster.cluster import Cluster
from deepterms.errors import InvalidInput
from deepterms.paper.tables.latency_model import LatencyModel, fit_latency_model, predict_latencies
from deepterms.paper.tables.local_cluster import LocalCluster, list_cores
from deepterms.paper.tables.machine import describe_engine
from deepterms.paper.tables.posting_index import PostingIndex
from deepterms.paper.tables.synthetic import SyntheticCollection
from deepterms.paper.tables.timed_searches import (
    Progress,
    TimedSearches,
    build_exhaustive_body,
    ignore_progress,
    search_in_turn,
)
from deepterms.schema.layouts import find_layout
from deepterms.search.widening import keep_largest_components
from deepterms.terms import TermFrequencies

__all__ = ["PAPER_MS", "Table2", "count_busiest_shares"]

# (nodes, shares) → milliseconds in the paper's Table 2: Elasticsearch, K = 100, a million images per share; other cells
# are unknown.
PAPER_MS: Mapping[tuple[int, int], float] = {(1, 1): 274.0}
# Shortened queries and an index of a fraction of a share (1 / PART) separate the cost of codewords from that of
# postings and the fixed cost.
EFFORTS = (1.0, 0.5, 0.2)
PART = 16
# A posting costs more than this on any machine. With too few documents, the fit can give less, and predictions from it
# would be meaningless.
MIN_POSTING_NS = 1.0
WARM_UP = 40  # searches: every node has its own JIT compiler and sees only part of the work
THREADS = 2  # concurrent bulk requests


@dataclass(frozen=True)
class Table2:
    """Equal shares of a collection, each an index with one shard, on a growing number of nodes.

    Attributes:
        collection: all documents, encoded at one K.
        shares: number of equal shares.
        nodes: final number of nodes.

    Raises:
        InvalidInput: there is more than one K, a number is not positive, or the shares would not be equal.
    """

    collection: SyntheticCollection
    shares: int = 4
    nodes: int = 4

    def __post_init__(self) -> None:
        documents, top_ks = self.collection.documents, self.collection.top_ks
        if len(top_ks) != 1 or self.nodes < 1 or self.shares < 1 or documents % self.shares:
            raise InvalidInput(
                f"got K {top_ks}, {self.nodes} nodes and {documents} documents in {self.shares} shares; expected one "
                "K, at least one node, and equal shares"
            )

    @property
    def documents_per_share(self) -> int:
        """Number of documents in each share."""
        return self.collection.documents // self.shares

    @property
    def top_k(self) -> int:
        """K of the collection."""
        return self.collection.top_ks[0]

    def run(
        self,
        nodes: LocalCluster,
        connect: Callable[[str], Any],
        *,
        queries: int,
        hits: int,
        on_progress: Progress = ignore_progress,
    ) -> dict[str, Any]:
        """Fill the shares on one node and measure; then repeatedly add a node, spread the shares and measure again.

        Args:
            nodes: a cluster without nodes.
            connect: URL → client.
            queries: number of timed queries per row.
            hits: number of hits per search.
            on_progress: called with the current step, the amount done, and the total.

        Returns:
            ``engine``; ``rows`` with ``nodes``, ``shares``, ``documents``, ``cpus_per_node``, ``nodes_per_core``,
            ``mean_ms``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``paper_ms``, ``model_ms`` (on this machine) and
            ``machines_ms`` (if each node had its own machine); ``postings`` that a query reads per share; ``model``,
            the fitted costs; and ``predictions``, empty if there are too few documents to fit the cost of a posting.

        Raises:
            InvalidInput: there are more hits than documents per share, or no queries or hits are requested.
            NodeError: a node cannot be started or pinned to a core.
            ClusterError: a document was rejected, or shards did not settle.
            ClusterUnreachable, RequestRejected: a node did not answer or rejected a request.
        """
        if queries < 1 or not 1 <= hits <= self.documents_per_share:
            raise InvalidInput(
                f"got {queries} queries and {hits} hits; expected at least 1 query and 1 to "
                f"{self.documents_per_share} hits, the number of documents per share"
            )
        nodes.add()
        client = connect(nodes.url)
        try:
            cluster = Cluster(client)
            layout = find_layout("frequencies")
            indices = [PostingIndex(cluster, layout, f"share-{number}") for number in range(self.shares)]
            part = PostingIndex(cluster, layout, "part")
            lengths = self._load(indices, part, on_progress)
            asked = {
                effort: [keep_largest_components(query, effort) for query in self._queries(queries)]
                for effort in EFFORTS
            }
            postings = {effort: _count_postings(cut, lengths) / self.shares for effort, cut in asked.items()}
            found: dict[tuple[int, int], TimedSearches] = {}
            observations: list[Observation] = []
            for count in range(1, self.nodes + 1):
                if count > 1:
                    nodes.add()
                    for number, index in enumerate(indices):
                        index.require_node(nodes.name(number % count))
                nodes.settle(cluster)
                for effort in EFFORTS if count == 1 else EFFORTS[:1]:
                    sets = {shares: indices[:shares] for shares in range(1, self.shares + 1)}
                    if count == 1:
                        sets[0] = [part]
                    searched = _search(cluster, sets, asked[effort], hits=hits, on_progress=on_progress)
                    if count == 1:
                        observations += _observe(searched, asked[effort][0].matrix.nnz, postings[effort])
                    if effort == 1:
                        found |= {(count, shares): seen for shares, seen in searched.items() if shares}
                if count == 1:
                    part.drop()
            model = fit_latency_model(observations)
            return {
                "engine": describe_engine(cluster),
                "rows": [self._build_row(key, seen, model, postings[1.0]) for key, seen in found.items()],
                "postings": postings[1.0],
                "model": asdict(model),
                "predictions": predict_latencies(
                    model,
                    clauses=self.top_k,
                    postings_per_document=postings[1.0] / self.documents_per_share,
                    bytes_per_document=sum(index.measure_bytes() for index in indices) / self.collection.documents,
                )
                if model.posting_ns >= MIN_POSTING_NS
                else [],
            }
        finally:
            client.close()

    def _queries(self, count: int) -> list[TermFrequencies]:
        queries = self.collection.queries(count)[self.top_k]
        return [queries[row : row + 1] for row in range(count)]

    def _load(self, indices: list[PostingIndex], part: PostingIndex, on_progress: Progress) -> NDArray[np.int64]:
        """Fill the shares and a part of the first; count the documents of each codeword over all shares: int64 (V,)."""
        lengths = np.zeros(self.collection.encoder(self.top_k).vocabulary_size, dtype=np.int64)
        share = self.documents_per_share
        bounds = [(number * share, (number + 1) * share) for number in range(self.shares)]
        targets = [*zip(indices, bounds, strict=True), (part, (0, max(1, share // PART)))]
        for index, _ in targets:
            index.create()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-bulk") as pool:
            for start, chunk in self.collection.chunks():
                terms = chunk[self.top_k]
                lengths += np.bincount(terms.matrix.indices, minlength=len(lengths))
                stop, sent = start + len(terms), []
                for index, (lowest, highest) in targets:
                    first, last = max(start, lowest), min(stop, highest)
                    if first < last:
                        sent += index.add(first, terms[first - start : last - start], pool=pool)
                for future in sent:
                    future.result()
                on_progress("loading", stop, self.collection.documents)
        for index, _ in targets:
            index.merge()
        return lengths

    def _build_row(
        self, key: tuple[int, int], searched: TimedSearches, model: LatencyModel, postings: float
    ) -> dict[str, Any]:
        count, shares = key
        cores = len(list_cores())
        shards = count_busiest_shares(shares, nodes=count, cores=cores)
        return {
            "nodes": count,
            "shares": shares,
            "documents": shares * self.documents_per_share,
            "cpus_per_node": 1,
            "nodes_per_core": ceil(count / cores),
            **searched.summarize(),
            "paper_ms": PAPER_MS.get(key) if self.top_k == 100 else None,
            "model_ms": model(shards=shards, clauses=self.top_k, postings=postings),
            "machines_ms": model(shards=ceil(shares / count), clauses=self.top_k, postings=postings),
        }


def count_busiest_shares(shares: int, *, nodes: int, cores: int) -> int:
    """Count the shares on the busiest core; share n is on node n mod `nodes`, and node n on core n mod `cores`."""
    return max(Counter(number % nodes % cores for number in range(shares)).values())


def _count_postings(queries: list[TermFrequencies], lengths: NDArray[np.int64]) -> float:
    """Count the postings that a query reads on average."""
    return float(np.mean([lengths[query.matrix.indices].sum() for query in queries]))


def _search(
    cluster: Cluster,
    sets: Mapping[int, list[PostingIndex]],
    queries: list[TermFrequencies],
    *,
    hits: int,
    on_progress: Progress,
) -> dict[int, TimedSearches]:
    """Search each set of indices; return the results under the same keys."""
    names = {",".join(index.full_name for index in indices): key for key, indices in sets.items()}
    bodies = [build_exhaustive_body(query, layout=sets[1][0].layout, k=hits) for query in queries]
    searched = search_in_turn(
        cluster,
        dict.fromkeys(names, bodies),
        warm_up=WARM_UP,
        on_progress=lambda done: on_progress("searching", done, len(bodies)),
    )
    return {key: searched[name] for name, key in names.items()}


def _observe(searched: Mapping[int, TimedSearches], clauses: int, postings: float) -> list[Observation]:
    """Turn the searches on one core into observations, by number of shares; 0 stands for the part of one share."""
    return [
        Observation(
            clauses=max(1, shares) * clauses,
            postings=shares * postings if shares else postings / PART,
            float32=0,
            int8=0,
            ms=seen.summarize()["p50_ms"],
        )
        for shares, seen in searched.items()
    ]
