"""Cost model: from a workload, a plan and the costs of a node to bytes, milliseconds and recall; and the best plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from deepterms.advice.costs import Figures
from deepterms.advice.recall import HARD, INT8_KEEPS, PHOTOGRAPHS, SKEW, RecallCurve
from deepterms.errors import InvalidInput
from deepterms.schema.sketches import MIN_SURVIVORS, count_sketch_bytes, wants_sketch
from deepterms.schema.vectors import VectorType, count_vector_bytes
from deepterms.tuning.figures import predict_find_ms, predict_search_ms
from deepterms.tuning.selection import MAX_PIVOTS, MIN_PIVOTS

__all__ = ["CapacityPlan", "Prediction", "Workload", "advise", "enumerate_plans", "predict"]

WORDS = (4, 8, 16)
QUERY_WORDS = (16, 32, 64)
DEPTHS = (100, 200, 500, 1_000, 2_000, 4_000)
MAX_SHARD = 2_000_000_000  # documents; Lucene numbers them with 31 bits
MAX_SHARD_BYTES = 50 * 2**30  # the maximum that both engines recommend
MIN_SHARDED = 1_000_000  # documents; in a smaller index, another shard costs more than it saves
MAX_EXTRAPOLATION = 10  # times the documents measured; beyond, the curve of easy descriptors is too optimistic
MAX_LOAD = 0.7  # the share of the cores that searches may keep busy
TERM_BYTES = 12  # of the dictionary, per codeword and shard
BASE_HEAP = 2**30
SHARD_HEAP = 50 * 2**20  # both engines recommend at most 20 shards per GB of heap


@dataclass(frozen=True)
class Workload:
    """The requirements of an index.

    Attributes:
        documents: N, the number of documents.
        dimensions: D, the length of a descriptor.
        recall: the lowest acceptable R@10.
        shards: the number of shards; None to choose it.
        queries_per_second: the load of concurrent queries; None if queries run one after the other.

    Raises:
        InvalidInput: an attribute is out of range.
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
    """Settings of an index.

    Attributes:
        pivots: P, the number of pivots.
        top_k: words per document.
        query_top_k: words per query.
        rerank: candidates to re-rank per shard.
        vector_type: the type of the stored vectors.
        shards: S, the number of shards.
    """

    pivots: int
    top_k: int
    query_top_k: int
    rerank: int
    vector_type: VectorType
    shards: int


@dataclass(frozen=True)
class Prediction:
    """The predicted cost and recall of a plan.

    Attributes:
        plan: the plan.
        recall: R@10 of descriptors as hard as mixtures.
        recall_photographs: R@10 of crops of photographs; None if there are too many documents for a prediction.
        extrapolation: documents of the workload over the most documents measured; 1 if there are no more.
        postings: postings that a query reads, over all shards.
        posting_bytes: disk space of the postings.
        dictionary_bytes: disk space of the term dictionary.
        vector_bytes: disk space of the vectors and their sketches, that is, their sign bits (binary quantization).
        other_bytes: disk space of ids, stored terms and the rest of the documents.
        pivot_bytes: size of the pivots, in the cluster and in each client.
        heap_bytes: heap of all data nodes together.
        page_cache_bytes: memory besides the heap that keeps searches from waiting for the disk.
        find_ms: milliseconds that the client takes to find a query's pivots.
        p50_ms: median latency of a single search, including `find_ms`.
        core_ms: core time that a search takes in the cluster.
        cores: cores that the workload's queries per second need; None without such a load.
        ingest_seconds: time to add and merge all documents with such a cluster.
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
        """Disk space without replicas."""
        parts = (self.posting_bytes, self.dictionary_bytes, self.vector_bytes, self.other_bytes, self.pivot_bytes)
        return sum(parts)


def predict(plan: CapacityPlan, workload: Workload, figures: Figures) -> Prediction:
    """Predict the cost and recall of a plan; every cost is the sum of parts that were measured separately."""
    N, D = workload.documents, workload.dimensions
    scale = D / figures.dimensions  # for costs that grow with the length of a descriptor
    postings = min(SKEW * N * plan.top_k * plan.query_top_k / plan.pivots, float(N * min(plan.top_k, plan.query_top_k)))
    depth = min(plan.rerank, N / plan.shards, postings / plan.shards)  # candidates per shard
    keeps = INT8_KEEPS if plan.vector_type == "int8" else 1.0

    def recall(curve: RecallCurve) -> float:
        return keeps * curve(
            documents=N,
            pivots=plan.pivots,
            words=plan.top_k,
            candidates=max(1.0, min(float(N), plan.rerank * plan.shards)),
            postings=max(1.0, postings),
        )

    sketch = wants_sketch(None, dimensions=D, stores_vectors=True, rerank=plan.rerank)
    compared = min(depth, MIN_SURVIVORS) if sketch else depth  # by their vectors
    shard_ms = -figures.fixed_ms + predict_search_ms(
        figures,
        dimensions=D,
        words=plan.query_top_k,
        postings=postings / plan.shards,
        vectors=compared,
        sketches=depth if depth > compared else 0.0,
        int8=plan.vector_type == "int8",
    )
    find_ms = predict_find_ms(plan.pivots, D, figures)
    core_ms = figures.fixed_ms + plan.shards * shard_ms
    rate = figures.int8_docs_per_second if plan.vector_type == "int8" else figures.float32_docs_per_second
    posting_bytes = N * plan.top_k * figures.posting_bytes
    vector_bytes = float(N * (count_vector_bytes(plan.vector_type, D) + (count_sketch_bytes(D) if sketch else 0)))
    dictionary_bytes = float(TERM_BYTES * plan.pivots * plan.shards)
    queries = workload.queries_per_second
    return Prediction(
        plan=plan,
        recall=recall(HARD),
        recall_photographs=recall(PHOTOGRAPHS) if MAX_EXTRAPOLATION * PHOTOGRAPHS.largest >= N else None,
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
        cores=None if queries is None else math.ceil(queries * core_ms / 1e3 / MAX_LOAD),
        ingest_seconds=N * scale / rate,
    )


def enumerate_plans(workload: Workload) -> Iterator[CapacityPlan]:
    """Enumerate the plans from which `advise` chooses."""
    pivots = [2**power for power in range(MIN_PIVOTS.bit_length() - 1, MAX_PIVOTS.bit_length())]
    # At least four documents per pivot, as many as a small collection can use.
    usable = [count for count in pivots if count <= max(MIN_PIVOTS, workload.documents / 4)]
    kinds: tuple[VectorType, ...] = ("int8", "float32")
    for vector_type in kinds:
        document_bytes = count_vector_bytes(vector_type, workload.dimensions) + count_sketch_bytes(workload.dimensions)
        needed = max(
            workload.documents * document_bytes / MAX_SHARD_BYTES,
            workload.documents / MAX_SHARD,
        )
        fewest = max(1, math.ceil(needed))
        options = (fewest, 2 * fewest, 4 * fewest) if workload.documents >= MIN_SHARDED else (fewest,)
        for shards in options if workload.shards is None else (workload.shards,):
            for P in usable:
                for words in WORDS:
                    for words_per_query in QUERY_WORDS:
                        for depth in DEPTHS:
                            yield CapacityPlan(P, words, words_per_query, depth, vector_type, shards)


def advise(workload: Workload, figures: Figures) -> Prediction:
    """Choose the fastest plan that reaches the workload's recall, or, if none does, the plan of the highest recall.

    Fastest means the lowest latency of a single search, or, for a load of concurrent queries, the least core time. The
    recall is that of hard descriptors; photographs should do better.
    """
    predictions = [predict(plan, workload, figures) for plan in enumerate_plans(workload)]
    good = [prediction for prediction in predictions if prediction.recall >= workload.recall]
    if not good:
        return max(predictions, key=lambda prediction: prediction.recall)
    if workload.queries_per_second is not None:
        return min(good, key=lambda prediction: (prediction.core_ms, prediction.total_bytes))
    return min(good, key=lambda prediction: (prediction.p50_ms, prediction.total_bytes))
