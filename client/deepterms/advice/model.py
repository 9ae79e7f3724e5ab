"""Model: from a workload, a plan and a node's figures to bytes, milliseconds and recall; and the best plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from deepterms.advice.costs import Figures
from deepterms.advice.recall import HARD, INT8_KEEPS, PHOTOGRAPHS, SKEW, RecallCurve
from deepterms.encoders.pivots.nearest import MAX_EXACT
from deepterms.encoders.presets import MAX_PIVOTS, MIN_PIVOTS
from deepterms.errors import InvalidInput
from deepterms.schema.sketches import MIN_SURVIVORS, sketch_bytes, wants_sketch
from deepterms.schema.vectors import VectorType, stored_bytes

__all__ = ["CapacityPlan", "Prediction", "Workload", "advise", "enumerate_plans", "predict"]

WORDS = (4, 8, 16)
QUERY_WORDS = (16, 32, 64)
DEPTHS = (100, 200, 500, 1_000, 2_000, 4_000)
MAX_SHARD = 2_000_000_000  # documents; Lucene numbers them in 31 bits
MAX_SHARD_BYTES = 50 * 2**30  # what both engines recommend at most
WORTH_SHARDS = 1_000_000  # documents; what several shards save of a smaller index is less than what each of them costs
FAR = 10  # times as many documents as were measured: beyond, an easy curve promises too much
BUSY = 0.7  # the share of the cores that searches may keep busy
TERM_BYTES = 12  # of the dictionary, for each codeword and shard
BASE_HEAP = 2**30
SHARD_HEAP = 50 * 2**20  # both engines recommend at most 20 shards for a GB


@dataclass(frozen=True)
class Workload:
    """What is wanted.

    Attributes:
        documents: N.
        dimensions: D.
        recall: R@10 at least.
        shards: how many; None to choose.
        queries_per_second: at once; None if one after the other.

    Raises:
        InvalidInput: one of them is out of range.
    """

    documents: int
    dimensions: int
    recall: float = 0.95
    shards: int | None = None
    queries_per_second: float | None = None

    def __post_init__(self) -> None:
        for name in ("documents", "dimensions"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 < self.recall < 1:
            raise InvalidInput(f"recall is {self.recall}; expected more than 0 and less than 1, such as 0.95")
        if self.shards is not None and self.shards < 1:
            raise InvalidInput(f"shards is {self.shards}; expected at least 1")
        if self.queries_per_second is not None and not self.queries_per_second > 0:
            raise InvalidInput(f"queries_per_second is {self.queries_per_second}; expected more than 0")


@dataclass(frozen=True)
class CapacityPlan:
    """How an index could be made.

    Attributes:
        pivots: P.
        top_k: words a document.
        query_top_k: words a query.
        rerank: candidates of each shard.
        vectors: how descriptors are kept.
        shards: S.
    """

    pivots: int
    top_k: int
    query_top_k: int
    rerank: int
    vector_type: VectorType
    shards: int


@dataclass(frozen=True)
class Prediction:
    """What a plan costs and finds.

    Attributes:
        plan: the plan.
        recall: R@10 of descriptors as hard as mixtures.
        recall_photographs: R@10 of crops of photographs; None for so many documents that nothing is known.
        extrapolation: how many times more documents there are than in what the recall was measured with; 1 if no more.
        postings: that a query reads, of all shards.
        posting_bytes: on the disk.
        dictionary_bytes: likewise.
        vector_bytes: likewise, with their sketches.
        other_bytes: ids, stored terms and the rest of a document.
        pivot_bytes: of the pivots, in the cluster and in each client.
        heap_bytes: of all data nodes together.
        page_cache_bytes: what should fit into memory beside the heap, so that no search waits for a disk.
        find_ms: to find a query's pivots, on the client.
        p50_ms: of one search alone, finding included.
        core_ms: time of one core that a search costs the cluster.
        cores: that the queries a second need; None if these are not given.
        ingest_seconds: with one such cluster, merged.
    """

    plan: CapacityPlan
    recall: float
    recall_photographs: float | None
    extrapolation: float
    postings: float
    posting_bytes: float
    dictionary_bytes: float
    vector_bytes: float
    other_bytes: float
    pivot_bytes: float
    heap_bytes: float
    page_cache_bytes: float
    find_ms: float
    p50_ms: float
    core_ms: float
    cores: int | None
    ingest_seconds: float

    @property
    def total_bytes(self) -> float:
        """On the disk, without copies."""
        parts = (self.posting_bytes, self.dictionary_bytes, self.vector_bytes, self.other_bytes, self.pivot_bytes)
        return sum(parts)


def _compared_pivots(pivots: int) -> float:
    """How many pivots could be compared exactly in the time that it takes to find a query's.

    In a projection and its codes 80 take the time of one, beside a fixed part (benchmarks/pivot_assignment.py).
    """
    return pivots if pivots <= MAX_EXACT else MAX_EXACT + pivots / 80


def predict(plan: CapacityPlan, workload: Workload, figures: Figures) -> Prediction:
    """What a plan costs and finds: every cost is a sum of parts that were measured one by one."""
    N, D = workload.documents, workload.dimensions
    scale = D / figures.dimensions  # what looks at a whole descriptor
    postings = min(SKEW * N * plan.top_k * plan.query_top_k / plan.pivots, float(N * min(plan.top_k, plan.query_top_k)))
    depth = min(plan.rerank, N / plan.shards, postings / plan.shards)  # candidates of a shard
    keeps = INT8_KEEPS if plan.vector_type == "int8" else 1.0

    def recall(curve: RecallCurve) -> float:
        return keeps * curve(
            documents=N,
            pivots=plan.pivots,
            words=plan.top_k,
            candidates=max(1.0, min(float(N), plan.rerank * plan.shards)),
            postings=max(1.0, postings),
        )

    candidate_us = scale * (figures.int8_us if plan.vector_type == "int8" else figures.float32_us)
    sketch = wants_sketch(None, dimensions=D, stores_vectors=True, rerank=plan.rerank)
    compared = min(depth, MIN_SURVIVORS) if sketch else depth  # exactly
    shard_ms = (
        plan.query_top_k * figures.clause_us / 1e3
        + postings / plan.shards * figures.posting_ns / 1e6
        + compared * candidate_us / 1e3
        + (depth * scale * figures.sketch_us / 1e3 if depth > compared else 0.0)
    )
    find_ms = _compared_pivots(plan.pivots) * scale * figures.pivot_ns / 1e6
    core_ms = figures.fixed_ms + plan.shards * shard_ms
    rate = figures.int8_docs_per_second if plan.vector_type == "int8" else figures.float32_docs_per_second
    posting_bytes = N * plan.top_k * figures.posting_bytes
    vector_bytes = float(N * (stored_bytes(plan.vector_type, D) + (sketch_bytes(D) if sketch else 0)))
    dictionary_bytes = float(TERM_BYTES * plan.pivots * plan.shards)
    queries = workload.queries_per_second
    return Prediction(
        plan=plan,
        recall=recall(HARD),
        recall_photographs=recall(PHOTOGRAPHS) if FAR * PHOTOGRAPHS.largest >= N else None,
        extrapolation=max(1.0, N / HARD.largest),
        postings=postings,
        posting_bytes=posting_bytes,
        dictionary_bytes=dictionary_bytes,
        vector_bytes=vector_bytes,
        other_bytes=N * figures.document_bytes,
        pivot_bytes=2.0 * D * plan.pivots,
        heap_bytes=float(BASE_HEAP + SHARD_HEAP * plan.shards),
        page_cache_bytes=posting_bytes + dictionary_bytes + vector_bytes,
        find_ms=find_ms,
        p50_ms=find_ms + figures.fixed_ms + math.ceil(plan.shards / figures.cores) * shard_ms,
        core_ms=core_ms,
        cores=None if queries is None else math.ceil(queries * core_ms / 1e3 / BUSY),
        ingest_seconds=N * scale / rate,
    )


def enumerate_plans(workload: Workload) -> Iterator[CapacityPlan]:
    """The plans among which `advise` chooses."""
    pivots = [2**power for power in range(MIN_PIVOTS.bit_length() - 1, MAX_PIVOTS.bit_length())]
    # Fewer pivots would only be right for collections that are smaller than the sample they come from.
    usable = [count for count in pivots if count <= max(MIN_PIVOTS, workload.documents / 4)]
    kinds: tuple[VectorType, ...] = ("int8", "float32")
    for vector_type in kinds:
        document_bytes = stored_bytes(vector_type, workload.dimensions) + sketch_bytes(workload.dimensions)
        needed = max(
            workload.documents * document_bytes / MAX_SHARD_BYTES,
            workload.documents / MAX_SHARD,
        )
        fewest = max(1, math.ceil(needed))
        more = (fewest, 2 * fewest, 4 * fewest) if workload.documents >= WORTH_SHARDS else (fewest,)
        for shards in more if workload.shards is None else (workload.shards,):
            for P in usable:
                for words in WORDS:
                    for words_per_query in QUERY_WORDS:
                        for depth in DEPTHS:
                            yield CapacityPlan(P, words, words_per_query, depth, vector_type, shards)


def advise(workload: Workload, figures: Figures) -> Prediction:
    """The plan that takes the least time of those that find as much as is wanted, or else the one that finds most.

    The time is that of one search, or with queries a second the time of cores that it costs. The recall is that of
    hard descriptors, so that of photographs should be better.
    """
    found = [predict(plan, workload, figures) for plan in enumerate_plans(workload)]
    good = [prediction for prediction in found if prediction.recall >= workload.recall]
    if not good:
        return max(found, key=lambda prediction: prediction.recall)
    if workload.queries_per_second is not None:
        return min(good, key=lambda prediction: (prediction.core_ms, prediction.total_bytes))
    return min(good, key=lambda prediction: (prediction.p50_ms, prediction.total_bytes))
