"""Probe: from temporary indices of synthetic descriptors, filled and searched on a node, to the costs of that node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from secrets import token_hex
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.advice.costs import REFERENCE, Figures, Observation, fit_costs
from deepterms.cluster.cluster import Cluster
from deepterms.deployment import deploy
from deepterms.encoders.pivots.permutation import PivotPermutation
from deepterms.encoders.pivots.sampling import sample_pivots
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.schema.sketches import count_sketch_bytes, count_survivors
from deepterms.schema.vectors import StoreVectors, count_vector_bytes
from deepterms.search.widening import build_query_terms

__all__ = ["PREFIX", "TimeBudget", "generate_descriptors", "probe"]

PREFIX = "deepterms-probe"  # of the names of temporary indices
FORGOTTEN_SECONDS = 600  # a probe takes two minutes, so an older index was left behind by a killed process
PIVOTS = 1_024
WORDS, MANY_WORDS = 4, 32
QUERY_WORDS = 64
HITS = 10
BATCH = 500
# Vectors excluded from _source are kept for recovery until the shard's copies have synchronised their checkpoints. They
# do so every half minute, and only then does a merge drop the vectors.
SETTLED_SECONDS = 35
# A server that has just started still interprets its code: with a warm-up of only 5 queries, predicted times were 27 to
# 83% too high.
WARM_UP, MIN_QUERIES, MAX_QUERIES = 60, 5, 60
# The searches to time, as (query words, candidates): in the indices with vectors, and in the one without.
RERANKED = ((8, 0), (64, 0), (16, 100), (16, 1_000))
WITHOUT = ((1, 0), (8, 0), (64, 0))


class TimeBudget:
    """Keeps track of the time that is left.

    Args:
        seconds: the time available from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left; negative if the time is over."""
        return self._end - time.monotonic()


def generate_descriptors(count: int, dimensions: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Generate float32 (count, D), L2-normalised, around 200 centres, so that posting lists differ in length."""
    rng = np.random.default_rng([2018, seed])
    centres = np.random.default_rng(2018).standard_normal((200, dimensions), dtype=np.float32)
    rows = rng.standard_normal((count, dimensions), dtype=np.float32)
    rows += centres[rng.integers(0, len(centres), count)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def probe(client: Any, *, dimensions: int, documents: int = 20_000, seconds: float = 110.0) -> Figures:
    """Measure the costs of a node without leaving indices behind.

    The probe creates three indices of synthetic descriptors and deletes them, even if it is interrupted. If the process
    is killed, they remain, and a probe that starts at least ten minutes later deletes them. The templates and pipelines
    of deepterms stay deployed.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        dimensions: D, the length of a descriptor.
        documents: documents per index; fewer if time is short.
        seconds: the approximate duration. The last request and the deletion may exceed it.

    Raises:
        InvalidInput: an argument is out of range.
        ClusterError: documents were rejected, or time ran out before any was indexed.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected a request.
    """
    if dimensions < 1 or documents < 2 or seconds <= 0:
        raise InvalidInput(
            f"dimensions is {dimensions}, documents is {documents}, seconds is {seconds}; expected at least 1 "
            "dimension, at least 2 documents and more than 0 seconds"
        )
    cluster, budget = Cluster(client), TimeBudget(seconds)
    _delete_abandoned(cluster)
    deploy(client)
    rows = generate_descriptors(documents, dimensions)
    pivots = sample_pivots(rows, min(PIVOTS, documents))
    most = min(QUERY_WORDS, len(pivots))
    few = PivotPermutation(pivots, top_k=min(WORDS, most), query_top_k=most)
    many = replace(few, top_k=min(MANY_WORDS, most))
    kinds: list[tuple[str, PivotPermutation, StoreVectors]] = [
        ("int8", few, "int8"),
        ("float32", few, "float32"),
        ("none", many, False),
    ]
    with ExitStack() as stack:
        filled = []
        for place, (kind, encoder, vectors) in enumerate(kinds):
            # One of the two indices with vectors has sketches, that is, sign bits (binary quantization), so that their
            # cost can be separated from that of vectors.
            index = stack.enter_context(_temporary_index(client, kind, encoder, vectors, sketch=kind == "int8"))
            # Half of the time is reserved for merges and searches.
            share = (budget.left() - 0.5 * seconds) / (len(kinds) - place)
            filled.append(_fill(index, rows, seconds=max(share, 0.0)))
        if budget.left() > SETTLED_SECONDS:
            time.sleep(SETTLED_SECONDS)
        for one in filled:
            one.merge()
        int8, float32, without = filled
        observations = _observe_searches(filled, generate_descriptors(MAX_QUERIES, dimensions, seed=1), budget)
        posting_bytes, document_bytes = _measure_bytes(int8, without, dimensions)
        return replace(
            REFERENCE,
            machine=f"{cluster.engine}, {count_cores(cluster)} cores, measured with {int8.documents:,} documents",
            dimensions=dimensions,
            cores=count_cores(cluster),
            **fit_costs(observations),
            pivot_ns=_measure_pivot_ns(few, dimensions),
            int8_docs_per_second=int8.rate,
            float32_docs_per_second=float32.rate,
            posting_bytes=posting_bytes,
            document_bytes=document_bytes,
        )


def count_cores(cluster: Cluster) -> int:
    """Count the processors of all data nodes; 1 if the cluster does not report them."""
    nodes = cluster.request("GET", "/_nodes/data:true/os").get("nodes", {})
    return max(1, sum(int(node.get("os", {}).get("allocated_processors", 0)) for node in nodes.values()))


class _FilledIndex:
    """A temporary index with its documents.

    Attributes:
        index: the index.
        documents: the number of documents.
        seconds: the time to add them and, after `merge`, to merge them.
        lengths: lengths of the posting lists, int64 (V,).
        bytes: disk space; 0 if unknown.
    """

    def __init__(self, index: SurrogateIndex, documents: int, seconds: float, lengths: NDArray[np.int64]) -> None:
        self.index, self.documents, self.seconds, self.lengths = index, documents, seconds, lengths
        self.ended = time.monotonic()
        self.bytes = 0

    @property
    def rate(self) -> float:
        """Documents per second, including the merge."""
        return self.documents / self.seconds

    def merge(self) -> None:
        """Merge to one segment; measure its size if the merge could drop the vectors kept for recovery."""
        cluster, path = self.index.cluster, f"/{self.index.name}"
        settled = time.monotonic() - self.ended >= SETTLED_SECONDS
        started = time.monotonic()
        cluster.request("POST", f"{path}/_flush")
        cluster.request("POST", f"{path}/_forcemerge", params={"max_num_segments": "1"})
        self.index.refresh()
        self.seconds += time.monotonic() - started
        if settled:
            stats = cluster.request("GET", f"{path}/_stats/store")
            self.bytes = int(stats["_all"]["primaries"]["store"]["size_in_bytes"])


def _delete_abandoned(cluster: Cluster) -> None:
    """Delete indices that a killed probe left behind."""
    found = cluster.request("GET", f"/deepterms-*-{PREFIX}-*/_settings/index.creation_date")
    for concrete, answer in found.items():
        created = int(answer["settings"]["index"]["creation_date"]) / 1e3
        if time.time() - created > FORGOTTEN_SECONDS:
            cluster.request("DELETE", f"/{concrete}")


@contextmanager
def _temporary_index(
    client: Any, kind: str, encoder: PivotPermutation, vectors: StoreVectors, *, sketch: bool
) -> Iterator[SurrogateIndex]:
    name = f"{PREFIX}-{kind}-{token_hex(4)}"
    try:
        yield SurrogateIndex.create(client, name, encoder=encoder, store_vectors=vectors, sketch=sketch, replicas=0)
    finally:
        # By pattern, to include an index whose creation failed halfway: its pivots are created first.
        cluster = Cluster(client)
        for concrete in cluster.request("GET", f"/deepterms-*-{name}-*"):
            cluster.request("DELETE", f"/{concrete}")


def _fill(index: SurrogateIndex, rows: NDArray[np.float32], *, seconds: float) -> _FilledIndex:
    started = time.monotonic()
    lengths = np.zeros(index.encoder.vocabulary_size, dtype=np.int64)
    documents = 0

    def batches() -> Iterator[tuple[list[str], NDArray[np.float32], None]]:
        nonlocal documents
        for start in range(0, len(rows), BATCH):
            if start and time.monotonic() - started > seconds:
                return
            batch = rows[start : start + BATCH]
            documents += len(batch)
            yield [str(start + row) for row in range(len(batch))], batch, None

    report = index.add_batches(batches())
    if report.failed or not report.succeeded:
        raise ClusterError(f"{len(report.failed)} documents of the probe were rejected; first: {report.failed[:1]}")
    seconds = time.monotonic() - started
    for start in range(0, documents, 4 * BATCH):
        terms = index.encoder.encode(rows[start : min(start + 4 * BATCH, documents)]).matrix
        lengths += np.bincount(terms.indices, minlength=len(lengths))
    return _FilledIndex(index, documents, seconds, lengths)


def _observe_searches(
    filled: list[_FilledIndex], queries: NDArray[np.float32], budget: TimeBudget
) -> list[Observation]:
    """Time each kind of search, in turn, so that load spikes affect all alike; the search for pivots is subtracted."""
    kinds = [(one, words, depth) for one in filled for words, depth in (RERANKED if one.index.vector_type else WITHOUT)]
    times: list[list[float]] = [[] for _ in kinds]
    postings: list[list[float]] = [[] for _ in kinds]
    for number in range(WARM_UP + len(queries)):
        if number >= WARM_UP + MIN_QUERIES and budget.left() < 0:
            break
        query = queries[number % len(queries)]
        for place, (one, words, depth) in enumerate(kinds):
            encoder = one.index.encoder
            effort = min(1.0, words / min(QUERY_WORDS, encoder.vocabulary_size))
            started = time.perf_counter()
            terms = build_query_terms(encoder, query, effort=effort)
            found = time.perf_counter()
            one.index.search(query, k=HITS, rerank=depth, effort=effort, fields=[])
            ended = time.perf_counter()
            if number >= WARM_UP:
                times[place].append(1e3 * max(ended - found - (found - started), 1e-6))
                postings[place].append(float(one.lengths[terms.matrix.indices].sum()))
    observations = []
    for place, (one, words, depth) in enumerate(kinds):
        candidates = min(depth, one.documents)
        compared = min(candidates, count_survivors(HITS)) if one.index.sketch else candidates
        observations.append(
            Observation(
                clauses=words,
                postings=float(np.mean(postings[place])),
                float32=compared if one.index.vector_type == "float32" else 0,
                int8=compared if one.index.vector_type == "int8" else 0,
                sketch=candidates if compared < candidates else 0,
                ms=median(times[place]),
            )
        )
    return observations


def _measure_bytes(int8: _FilledIndex, without: _FilledIndex, dimensions: int) -> tuple[float, float]:
    """Measure bytes per word (posting and stored term) and per document (everything but words and vector).

    The sizes of two indices determine the two unknowns. If time was too short for reliable sizes, the stored figures
    are returned.
    """
    if not (int8.bytes and without.bytes):
        return REFERENCE.posting_bytes, REFERENCE.document_bytes
    few, many = (float(one.lengths.sum()) / one.documents for one in (int8, without))
    bare = int8.bytes / int8.documents - count_vector_bytes("int8", dimensions) - count_sketch_bytes(dimensions)
    posting = (without.bytes / without.documents - bare) / (many - few) if many > few else 0.0
    posting = posting if posting > 0 else REFERENCE.posting_bytes
    return posting, max(bare - posting * few, 0.0)


def _measure_pivot_ns(encoder: PivotPermutation, dimensions: int) -> float:
    query = generate_descriptors(1, dimensions, seed=2)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        encoder.encode_queries(query)
        times.append(time.perf_counter() - started)
    return 1e9 * median(times) / len(encoder.pivots)
