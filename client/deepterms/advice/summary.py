"""Sentences: a prediction as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from deepterms.advice.costs import Figures
from deepterms.advice.model import Prediction, Workload
from deepterms.advice.recall import HARD, PHOTOGRAPHS

__all__ = ["format_bytes", "format_seconds", "summarize"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_bytes(count: float) -> str:
    """In powers of a thousand: ``1.3 GB``."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.3g} {_UNITS[-1]}"


def format_seconds(seconds: float) -> str:
    """In the unit that fits."""
    for limit, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86_400:,.3g} days"


def summarize(prediction: Prediction, workload: Workload, figures: Figures) -> Iterator[tuple[str, str]]:
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
