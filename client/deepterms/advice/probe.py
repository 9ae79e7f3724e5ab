"""Probe: temporary indices of synthetic descriptors on a node, and what it takes to fill and to search them."""

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
from deepterms.schema.sketches import sketch_bytes, survivors
from deepterms.schema.vectors import StoreVectors, stored_bytes
from deepterms.search.widening import query_terms

__all__ = ["PREFIX", "TimeBudget", "generate_descriptors", "probe"]

PREFIX = "deepterms-probe"  # with what the names begin
FORGOTTEN_SECONDS = 600  # a probe takes two minutes, so an older index of one was left by a process that was killed
PIVOTS = 1_024
WORDS, MANY_WORDS = 4, 32
QUERY_WORDS = 64
HITS = 10
BATCH = 500
# Vectors left out of _source are kept for recovery, and go with a merge once the shard's copies have agreed on how far
# they are, which they do each half minute.
SETTLED_SECONDS = 35
# A server that was just started interprets its code: after 5 queries of warming up, times were predicted 27 to 83 % too
# high.
WARM_UP, MIN_QUERIES, MAX_QUERIES = 60, 5, 60
# (query words, candidates): what is searched, of the indices with vectors and of the one without.
RERANKED = ((8, 0), (64, 0), (16, 100), (16, 1_000))
WITHOUT = ((1, 0), (8, 0), (64, 0))


class TimeBudget:
    """How much of the time is left.

    Args:
        seconds: for all.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; negative if they are over."""
        return self._end - time.monotonic()


def generate_descriptors(count: int, dimensions: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Float32 (count, D), L2-normalised: around 200 centres, so that pivots have lists of different lengths."""
    rng = np.random.default_rng([2018, seed])
    centres = np.random.default_rng(2018).standard_normal((200, dimensions), dtype=np.float32)
    rows = rng.standard_normal((count, dimensions), dtype=np.float32)
    rows += centres[rng.integers(0, len(centres), count)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def probe(client: Any, *, dimensions: int, documents: int = 20_000, seconds: float = 110.0) -> Figures:
    """Measure what one node takes; afterwards its indices are as before.

    Three indices of synthetic descriptors are made and deleted, also where this is interrupted. A process that is
    killed leaves them; the next probe, ten minutes later or more, deletes them too. Templates and pipelines of
    deepterms stay deployed.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        dimensions: D.
        documents: of each index; fewer if time is short.
        seconds: about how long it may take, with some more for the last request and for deleting.

    Raises:
        InvalidInput: a number out of range.
        ClusterError: documents were refused, or time ran out before anything was indexed.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    if dimensions < 1 or documents < 2 or seconds <= 0:
        raise InvalidInput(
            f"dimensions is {dimensions}, documents {documents}, seconds {seconds}; expected 1, 2 and more than 0"
        )
    cluster, spent = Cluster(client), TimeBudget(seconds)
    _forget(cluster)
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
            # Of the two with vectors one has sketches, so that the price of comparing by each can be told.
            index = stack.enter_context(_temporary(client, kind, encoder, vectors, sketch=kind == "int8"))
            share = (spent.left() - 0.5 * seconds) / (len(kinds) - place)  # half is left to merge and search
            filled.append(_fill(index, rows, seconds=max(share, 0.0)))
        if spent.left() > SETTLED_SECONDS:
            time.sleep(SETTLED_SECONDS)
        for one in filled:
            one.merge()
        int8, float32, without = filled
        observations = _observations(filled, generate_descriptors(MAX_QUERIES, dimensions, seed=1), spent)
        posting_bytes, document_bytes = _bytes(int8, without, dimensions)
        return replace(
            REFERENCE,
            machine=f"{cluster.engine}, {count_cores(cluster)} cores, measured with {int8.documents:,} documents",
            dimensions=dimensions,
            cores=count_cores(cluster),
            **fit_costs(observations),
            pivot_ns=_pivot_ns(few, dimensions),
            int8_docs_per_second=int8.rate,
            float32_docs_per_second=float32.rate,
            posting_bytes=posting_bytes,
            document_bytes=document_bytes,
        )


def count_cores(cluster: Cluster) -> int:
    """Processors that the data nodes use; 1 if the cluster does not tell."""
    nodes = cluster.request("GET", "/_nodes/data:true/os").get("nodes", {})
    return max(1, sum(int(node.get("os", {}).get("allocated_processors", 0)) for node in nodes.values()))


class _Filled:
    """One of the indices.

    Attributes:
        index: the index.
        documents: that it holds.
        seconds: that it took to add them and, once they are, to merge them.
        lengths: int64 (V,), of its posting lists.
        bytes: on the disk; 0 where they are not known.
    """

    def __init__(self, index: SurrogateIndex, documents: int, seconds: float, lengths: NDArray[np.int64]) -> None:
        self.index, self.documents, self.seconds, self.lengths = index, documents, seconds, lengths
        self.ended = time.monotonic()
        self.bytes = 0

    @property
    def rate(self) -> float:
        """Documents a second, merged."""
        return self.documents / self.seconds

    def merge(self) -> None:
        """To one segment; then count its bytes, if what is kept for recovery could go with that."""
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


def _forget(cluster: Cluster) -> None:
    """Delete what a probe left that was killed."""
    found = cluster.request("GET", f"/deepterms-*-{PREFIX}-*/_settings/index.creation_date")
    for concrete, answer in found.items():
        created = int(answer["settings"]["index"]["creation_date"]) / 1e3
        if time.time() - created > FORGOTTEN_SECONDS:
            cluster.request("DELETE", f"/{concrete}")


@contextmanager
def _temporary(
    client: Any, kind: str, encoder: PivotPermutation, vectors: StoreVectors, *, sketch: bool
) -> Iterator[SurrogateIndex]:
    name = f"{PREFIX}-{kind}-{token_hex(4)}"
    try:
        yield SurrogateIndex.create(client, name, encoder=encoder, store_vectors=vectors, sketch=sketch, replicas=0)
    finally:
        # Also what was half made: the pivots come before the index.
        cluster = Cluster(client)
        for concrete in cluster.request("GET", f"/deepterms-*-{name}-*"):
            cluster.request("DELETE", f"/{concrete}")


def _fill(index: SurrogateIndex, rows: NDArray[np.float32], *, seconds: float) -> _Filled:
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
        raise ClusterError(f"{len(report.failed)} documents of a probe were refused: {report.failed[:1]}")
    seconds = time.monotonic() - started
    for start in range(0, documents, 4 * BATCH):
        terms = index.encoder.encode(rows[start : min(start + 4 * BATCH, documents)]).matrix
        lengths += np.bincount(terms.indices, minlength=len(lengths))
    return _Filled(index, documents, seconds, lengths)


def _observations(filled: list[_Filled], queries: NDArray[np.float32], spent: TimeBudget) -> list[Observation]:
    """Each kind of search, all of them in turn, so that a busy moment falls on all; finding pivots is taken off."""
    kinds = [(one, words, depth) for one in filled for words, depth in (RERANKED if one.index.vector_type else WITHOUT)]
    times: list[list[float]] = [[] for _ in kinds]
    postings: list[list[float]] = [[] for _ in kinds]
    for number in range(WARM_UP + len(queries)):
        if number >= WARM_UP + MIN_QUERIES and spent.left() < 0:
            break
        query = queries[number % len(queries)]
        for place, (one, words, depth) in enumerate(kinds):
            encoder = one.index.encoder
            effort = min(1.0, words / min(QUERY_WORDS, encoder.vocabulary_size))
            started = time.perf_counter()
            terms = query_terms(encoder, query, effort=effort)
            found = time.perf_counter()
            one.index.search(query, k=HITS, rerank=depth, effort=effort, fields=[])
            ended = time.perf_counter()
            if number >= WARM_UP:
                times[place].append(1e3 * max(ended - found - (found - started), 1e-6))
                postings[place].append(float(one.lengths[terms.matrix.indices].sum()))
    seen = []
    for place, (one, words, depth) in enumerate(kinds):
        candidates = min(depth, one.documents)
        compared = min(candidates, survivors(HITS)) if one.index.sketch else candidates
        seen.append(
            Observation(
                clauses=words,
                postings=float(np.mean(postings[place])),
                float32=compared if one.index.vector_type == "float32" else 0,
                int8=compared if one.index.vector_type == "int8" else 0,
                sketch=candidates if compared < candidates else 0,
                ms=median(times[place]),
            )
        )
    return seen


def _bytes(int8: _Filled, without: _Filled, dimensions: int) -> tuple[float, float]:
    """Bytes a word (posting and stored term) and, beside words and vector, a document: two unknowns in two sizes.

    Stored figures where time was too short for sizes that last.
    """
    if not (int8.bytes and without.bytes):
        return REFERENCE.posting_bytes, REFERENCE.document_bytes
    few, many = (float(one.lengths.sum()) / one.documents for one in (int8, without))
    bare = int8.bytes / int8.documents - stored_bytes("int8", dimensions) - sketch_bytes(dimensions)
    posting = (without.bytes / without.documents - bare) / (many - few) if many > few else 0.0
    posting = posting if posting > 0 else REFERENCE.posting_bytes
    return posting, max(bare - posting * few, 0.0)


def _pivot_ns(encoder: PivotPermutation, dimensions: int) -> float:
    query = generate_descriptors(1, dimensions, seed=2)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        encoder.encode_queries(query)
        times.append(time.perf_counter() - started)
    return 1e9 * median(times) / len(encoder.pivots)
