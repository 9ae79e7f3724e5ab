"""Table 2 of the paper: milliseconds of a search by nodes and by shares of the documents, and a model beyond them."""

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
from deepterms.paper.tables.latency_model import LatencyModel, fitted_model, predictions
from deepterms.paper.tables.local_cluster import Nodes, cores
from deepterms.paper.tables.machine import describe_engine
from deepterms.paper.tables.posting_index import Lists
from deepterms.paper.tables.progress import Progress, silent
from deepterms.paper.tables.synthetic import Collection
from deepterms.paper.tables.timed_searches import Searched, exhaustive_body, search_in_turn
from deepterms.schema.layouts import find_layout
from deepterms.search.widening import keep_largest_components
from deepterms.terms import TermFrequencies

__all__ = ["PAPER_MS", "Table2", "busiest"]

# (nodes, shares) → milliseconds of the paper's Table 2: Elasticsearch, K = 100, a million images a share. What is not
# here is not known.
PAPER_MS: Mapping[tuple[int, int], float] = {(1, 1): 274.0}
# Of a query's codewords, and an index of so small a part of a share, so that the price of codewords, of postings and of
# the rest can be told apart.
EFFORTS = (1.0, 0.5, 0.2)
PART = 16
# A posting costs more than that anywhere: less is fitted where there are too few documents for it to show, and a
# prediction from it would be nonsense.
FASTEST_NS = 1.0
WARM_UP = 40  # every node has a compiler of its own, which sees a part of the work
THREADS = 2  # bulk requests under way at once


@dataclass(frozen=True)
class Table2:
    """Shares of a collection, each an index of one shard, on more and more nodes.

    Attributes:
        collection: all documents, encoded at one K.
        shares: into how many equal parts they are divided.
        nodes: how many there are in the end.

    Raises:
        InvalidInput: more than one K, a number that is not positive, or shares that are not equal.
    """

    collection: Collection
    shares: int = 4
    nodes: int = 4

    def __post_init__(self) -> None:
        documents, top_ks = self.collection.documents, self.collection.top_ks
        if len(top_ks) != 1 or self.nodes < 1 or self.shares < 1 or documents % self.shares:
            raise InvalidInput(
                f"K {top_ks}, {self.nodes} nodes, {documents} documents in {self.shares} shares; expected one K, one "
                "node or more, and equal shares"
            )

    @property
    def share(self) -> int:
        """Documents of each."""
        return self.collection.documents // self.shares

    @property
    def top_k(self) -> int:
        """K."""
        return self.collection.top_ks[0]

    def run(
        self,
        nodes: Nodes,
        connect: Callable[[str], Any],
        *,
        queries: int,
        hits: int,
        on_progress: Progress = silent,
    ) -> dict[str, Any]:
        """Fill the shares on one node and measure; then add a node, spread the shares and measure, again and again.

        Args:
            nodes: none yet.
            connect: address → a client.
            queries: how many are timed, of each row.
            hits: how many a search returns.
            on_progress: called with what is done, how much of it, and of how much.

        Returns:
            ``engine``; ``rows`` with ``nodes``, ``shares``, ``documents``, ``cpus_per_node``, ``nodes_per_core``,
            ``mean_ms``, ``p50_ms``, ``p95_ms``, ``p99_ms``, ``paper_ms``, ``model_ms`` (of this machine) and
            ``machines_ms`` (had each node a machine of its own); ``postings`` that a query reads of a share; ``model``,
            its costs, and ``predictions``, none where they do not tell the price of a posting.

        Raises:
            InvalidInput: more hits than a share has documents.
            NodeError: a node cannot be started, or not be held to a core.
            ClusterError: a document was refused, or shards do not settle.
            ClusterUnreachable, RequestRejected: a node did not answer, or refused.
        """
        if queries < 1 or not 1 <= hits <= self.share:
            raise InvalidInput(
                f"{queries} queries, {hits} hits; expected 1 or more, and hits of {self.share} documents"
            )
        nodes.add()
        client = connect(nodes.url)
        try:
            cluster = Cluster(client)
            layout = find_layout("frequencies")
            lists = [Lists(cluster, layout, f"share-{number}") for number in range(self.shares)]
            part = Lists(cluster, layout, "part")
            lengths = self._load(lists, part, on_progress)
            asked = {
                effort: [keep_largest_components(query, effort) for query in self._queries(queries)]
                for effort in EFFORTS
            }
            postings = {effort: _postings(cut, lengths) / self.shares for effort, cut in asked.items()}
            found: dict[tuple[int, int], Searched] = {}
            observations: list[Observation] = []
            for count in range(1, self.nodes + 1):
                if count > 1:
                    nodes.add()
                    for number, one in enumerate(lists):
                        one.require_node(nodes.name(number % count))
                nodes.settle(cluster)
                for effort in EFFORTS if count == 1 else EFFORTS[:1]:
                    sets = {shares: lists[:shares] for shares in range(1, self.shares + 1)}
                    if count == 1:
                        sets[0] = [part]
                    searched = _search(cluster, sets, asked[effort], hits=hits, on_progress=on_progress)
                    if count == 1:
                        observations += _observations(searched, asked[effort][0].matrix.nnz, postings[effort])
                    if effort == 1:
                        found |= {(count, shares): seen for shares, seen in searched.items() if shares}
                if count == 1:
                    part.drop()
            model = fitted_model(observations)
            return {
                "engine": describe_engine(cluster),
                "rows": [self._row(key, seen, model, postings[1.0]) for key, seen in found.items()],
                "postings": postings[1.0],
                "model": asdict(model),
                "predictions": predictions(
                    model,
                    clauses=self.top_k,
                    postings_per_document=postings[1.0] / self.share,
                    bytes_per_document=sum(one.size() for one in lists) / self.collection.documents,
                )
                if model.posting_ns >= FASTEST_NS
                else [],
            }
        finally:
            client.close()

    def _queries(self, count: int) -> list[TermFrequencies]:
        queries = self.collection.queries(count)[self.top_k]
        return [queries[row : row + 1] for row in range(count)]

    def _load(self, lists: list[Lists], part: Lists, on_progress: Progress) -> NDArray[np.int64]:
        """Fill the shares, and a part of the first; how many documents of all shares each codeword has: int64 (V,)."""
        lengths = np.zeros(self.collection.encoder(self.top_k).vocabulary_size, dtype=np.int64)
        bounds = [(number * self.share, (number + 1) * self.share) for number in range(self.shares)]
        targets = [*zip(lists, bounds, strict=True), (part, (0, max(1, self.share // PART)))]
        for one, _ in targets:
            one.create()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="deepterms-bulk") as pool:
            for start, chunk in self.collection.chunks():
                terms = chunk[self.top_k]
                lengths += np.bincount(terms.matrix.indices, minlength=len(lengths))
                stop, sent = start + len(terms), []
                for one, (lowest, highest) in targets:
                    first, last = max(start, lowest), min(stop, highest)
                    if first < last:
                        sent += one.add(first, terms[first - start : last - start], pool=pool)
                for future in sent:
                    future.result()
                on_progress("loading", stop, self.collection.documents)
        for one, _ in targets:
            one.merge()
        return lengths

    def _row(self, key: tuple[int, int], searched: Searched, model: LatencyModel, postings: float) -> dict[str, Any]:
        count, shares = key
        here = len(cores())
        return {
            "nodes": count,
            "shares": shares,
            "documents": shares * self.share,
            "cpus_per_node": 1,
            "nodes_per_core": ceil(count / here),
            **searched.figures(),
            "paper_ms": PAPER_MS.get(key) if self.top_k == 100 else None,
            "model_ms": model(shards=busiest(shares, nodes=count, cores=here), clauses=self.top_k, postings=postings),
            "machines_ms": model(shards=ceil(shares / count), clauses=self.top_k, postings=postings),
        }


def busiest(shares: int, *, nodes: int, cores: int) -> int:
    """How many shares the core has that has most: share n is on node n modulo their number, and a node on a core so."""
    return max(Counter(number % nodes % cores for number in range(shares)).values())


def _postings(queries: list[TermFrequencies], lengths: NDArray[np.int64]) -> float:
    """How many postings a query reads, on average."""
    return float(np.mean([lengths[query.matrix.indices].sum() for query in queries]))


def _search(
    cluster: Cluster,
    sets: Mapping[int, list[Lists]],
    queries: list[TermFrequencies],
    *,
    hits: int,
    on_progress: Progress,
) -> dict[int, Searched]:
    """The searches of each set of indices, under its key."""
    names = {",".join(one.index for one in lists): key for key, lists in sets.items()}
    bodies = [exhaustive_body(query, layout=sets[1][0].layout, k=hits) for query in queries]
    searched = search_in_turn(
        cluster,
        dict.fromkeys(names, bodies),
        warm_up=WARM_UP,
        on_progress=lambda done: on_progress("searching", done, len(bodies)),
    )
    return {key: searched[name] for name, key in names.items()}


def _observations(searched: Mapping[int, Searched], clauses: int, postings: float) -> list[Observation]:
    """What one core worked through, by number of shares; 0 stands for the part of one."""
    return [
        Observation(
            clauses=max(1, shares) * clauses,
            postings=shares * postings if shares else postings / PART,
            float32=0,
            int8=0,
            ms=seen.figures()["p50_ms"],
        )
        for shares, seen in searched.items()
    ]
