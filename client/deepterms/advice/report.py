"""Sentences: a prediction as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from deepterms.advice.costs import Figures
from deepterms.advice.model import Prediction, Workload
from deepterms.advice.recall import HARD, PHOTOGRAPHS
from deepterms.units import format_bytes, format_seconds

__all__ = ["sentences"]


def sentences(prediction: Prediction, workload: Workload, figures: Figures) -> Iterator[tuple[str, str]]:
    """(subject, what is said of it), in order."""
    plan = prediction.plan
    shards = "1 shard" if plan.shards == 1 else f"{plan.shards:,} shards"
    yield (
        "encoder",
        f"PivotPermutation of {plan.pivots:,} pivots, {plan.top_k} words a document, {plan.query_top_k} a query; "
        f"re-rank {plan.rerank:,} candidates{' of each shard' if plan.shards > 1 else ''}",
    )
    yield "index", f"layout codewords, {plan.vector_type} vectors, {shards}"
    reached = "" if prediction.recall >= workload.recall else f": less than the {workload.recall:g} wanted"
    photographs = prediction.recall_photographs
    easy = "" if photographs is None else f", {photographs:.3f} of {PHOTOGRAPHS.name}"
    yield (
        "recall",
        f"R@10 {prediction.recall:.3f} of {HARD.name}{easy}{reached}",
    )
    if plan.pivots > HARD.max_pivots:
        yield "", f"more than {HARD.max_pivots:,} pivots were not measured"
    if prediction.extrapolation > 1:
        yield (
            "",
            f"extrapolated: {prediction.extrapolation:,.1f} times the {HARD.largest:,} documents that it was measured "
            "with; measure on your own before you rely on it",
        )
    yield (
        "search",
        f"{prediction.p50_ms:.3g} ms (p50), {prediction.find_ms:.2g} ms of it to find pivots here; "
        f"{prediction.postings:,.0f} postings",
    )
    if prediction.cores is not None:
        yield (
            "load",
            f"{workload.queries_per_second:g} queries a second keep {prediction.cores:,} cores of the cluster 70 % "
            "busy or less",
        )
    yield (
        "disk",
        f"{format_bytes(prediction.total_bytes)} without copies: vectors {format_bytes(prediction.vector_bytes)}, "
        f"postings {format_bytes(prediction.posting_bytes)}, dictionary "
        f"{format_bytes(prediction.dictionary_bytes)}, pivots {format_bytes(prediction.pivot_bytes)}, "
        f"others {format_bytes(prediction.other_bytes)}",
    )
    yield (
        "memory",
        f"heap {format_bytes(prediction.heap_bytes)} of all nodes together, and page cache for "
        f"{format_bytes(prediction.page_cache_bytes)}, or searches wait for the disk",
    )
    yield "ingest", f"{format_seconds(prediction.ingest_seconds)}, merged"
    yield "figures", figures.machine
