"""Summary: from a prediction to the sentences that `deepterms advise` prints."""

from __future__ import annotations

from collections.abc import Iterator

from deepterms.advice.costs import Figures
from deepterms.advice.model import Prediction, Workload
from deepterms.advice.recall import HARD, PHOTOGRAPHS
from deepterms.units import format_bytes, format_seconds

__all__ = ["summarize"]


def _format_number(number: float) -> str:
    """Format three significant digits: ``0.28``, ``1,380``."""
    return f"{float(f'{number:.3g}'):,.6g}"


def summarize(prediction: Prediction, workload: Workload, figures: Figures) -> Iterator[tuple[str, str]]:
    """Summarize a prediction as (subject, sentence), in the order of the output."""
    plan = prediction.plan
    shards = "1 shard" if plan.shards == 1 else f"{plan.shards:,} shards"
    yield (
        "encoder",
        f"PivotPermutation with {plan.pivots:,} pivots, {plan.top_k} words per document, {plan.query_top_k} per query; "
        f"re-rank {plan.rerank:,} candidates{' per shard' if plan.shards > 1 else ''}",
    )
    yield "index", f"layout codewords, {plan.vector_type} vectors, {shards}"
    reached = (
        ""
        if prediction.recall >= workload.recall
        else f"; below the required {workload.recall:g}, which no plan reaches"
    )
    photographs = prediction.recall_photographs
    easy = "" if photographs is None else f", {photographs:.3f} for {PHOTOGRAPHS.name}"
    yield (
        "recall",
        f"R@10 {prediction.recall:.3f} for {HARD.name}{easy}{reached}",
    )
    if plan.pivots > HARD.max_pivots:
        yield "", f"extrapolated: the largest measured number of pivots is {HARD.max_pivots:,}"
    if prediction.extrapolation > 1:
        yield (
            "",
            f"extrapolated: recall was measured with up to {HARD.largest:,} documents, "
            f"{_format_number(prediction.extrapolation)} times fewer; verify it on your own data",
        )
    yield (
        "search",
        f"{_format_number(prediction.p50_ms)} ms (p50), of which the client takes {prediction.find_ms:.2g} ms to find "
        f"pivots; reads {prediction.postings:,.0f} postings",
    )
    if prediction.cores is not None:
        yield (
            "load",
            f"{workload.queries_per_second:g} queries per second need {prediction.cores:,} "
            f"{'core' if prediction.cores == 1 else 'cores'} in the cluster, at most 70% busy",
        )
    yield (
        "disk",
        f"{format_bytes(prediction.total_bytes)} without replicas: vectors {format_bytes(prediction.vector_bytes)}, "
        f"postings {format_bytes(prediction.posting_bytes)}, dictionary "
        f"{format_bytes(prediction.dictionary_bytes)}, pivots {format_bytes(prediction.pivot_bytes)}, "
        f"other {format_bytes(prediction.other_bytes)}",
    )
    yield (
        "memory",
        f"{format_bytes(prediction.heap_bytes)} of heap over all nodes, plus "
        f"{format_bytes(prediction.page_cache_bytes)} of page cache; with less, searches wait for the disk",
    )
    yield "ingest", f"{format_seconds(prediction.ingest_seconds)}, including merges"
    yield "figures", figures.machine
