"""Advice: costs add up, grow with what they depend on, and can be recovered from the times that they produce."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepterms.advice import REFERENCE, CapacityPlan, Workload, advise, predict
from deepterms.advice.costs import Observation, fit_costs
from deepterms.advice.model import MAX_SHARD_BYTES, enumerate_plans
from deepterms.advice.recall import HARD, PHOTOGRAPHS, RecallCurve
from deepterms.advice.summary import summarize
from deepterms.errors import InvalidInput

PLAN = CapacityPlan(pivots=8_192, top_k=4, query_top_k=32, rerank=500, vector_type="float32", shards=1)
WORKLOAD = Workload(100_000, 1_280)


def test_a_search_is_the_sum_of_its_parts() -> None:
    """Worked out by hand with figures that are easy to add."""
    figures = replace(
        REFERENCE,
        dimensions=1_280,
        cores=1,
        fixed_ms=1,
        clause_us=10,
        posting_ns=100,
        float32_us=2,
        sketch_us=0.5,
        pivot_ns=100,
    )
    found = predict(PLAN, WORKLOAD, figures)
    assert found.postings == pytest.approx(1.2 * 100_000 * 4 * 32 / 8_192)  # 1,875
    assert found.find_ms == pytest.approx(0.11264)  # 1,024 exact comparisons, plus an eightieth of all pivots
    # 500 candidates by their sketches, 200 of them by their vectors.
    assert found.p50_ms == pytest.approx(0.11264 + 1 + 0.32 + 0.1875 + 0.25 + 0.4)
    assert found.core_ms == pytest.approx(1 + 0.32 + 0.1875 + 0.25 + 0.4)
    few = predict(replace(PLAN, rerank=200), WORKLOAD, figures)  # so few candidates are all compared by their vectors
    assert few.core_ms == pytest.approx(1 + 0.32 + 0.1875 + 0.4)


def test_bytes_are_the_sum_of_their_parts() -> None:
    figures = replace(REFERENCE, posting_bytes=2, document_bytes=50)
    found = predict(replace(PLAN, vector_type="int8"), WORKLOAD, figures)
    assert found.vector_bytes == 100_000 * (1_284 + 160)
    assert found.posting_bytes == 100_000 * 4 * 2
    assert found.other_bytes == 100_000 * 50
    assert found.pivot_bytes == 8_192 * 1_280 * 2
    assert found.dictionary_bytes == 12 * 8_192
    assert found.total_bytes == 144_400_000 + 800_000 + 5_000_000 + 20_971_520 + 98_304


@pytest.mark.parametrize("name", ["postings", "total_bytes", "p50_ms", "core_ms", "heap_bytes", "ingest_seconds"])
def test_more_documents_never_cost_less(name: str) -> None:
    costs = [getattr(predict(PLAN, Workload(10**power, 1_280), REFERENCE), name) for power in range(3, 10)]
    assert costs == sorted(costs)


def test_recall_falls_with_documents_and_grows_with_effort() -> None:
    def recall(workload: Workload = WORKLOAD, **changes: int) -> float:
        return predict(replace(PLAN, **changes), workload, REFERENCE).recall  # type: ignore[arg-type]

    assert recall(Workload(1_000_000, 1_280)) < recall()
    for name in ("top_k", "query_top_k", "rerank"):
        assert recall(**{name: 2 * getattr(PLAN, name)}) > recall()
    assert 0 < recall(rerank=10) < recall(rerank=10_000) < 1


def test_recall_is_one_if_every_document_is_compared() -> None:
    few = Workload(400, 8)
    assert predict(replace(PLAN, pivots=32, top_k=16), few, REFERENCE).recall == 1


@pytest.mark.parametrize("curve", [HARD, PHOTOGRAPHS])
def test_recall_is_limited_by_candidates_or_postings(curve: RecallCurve) -> None:
    def at(candidates: float, postings: float) -> float:
        return curve(documents=100_000, pivots=8_192, words=4, candidates=candidates, postings=postings)

    assert at(500, 1_000) == pytest.approx(at(1_000, 500))
    assert at(10_000, 500) < at(10_000, 5_000)


def test_curve_agrees_with_a_million_measured_documents() -> None:
    """16,384 pivots, 4 words, 32 query words, 500 candidates, int8 vectors: R@10 .898."""
    plan = CapacityPlan(pivots=16_384, top_k=4, query_top_k=32, rerank=500, vector_type="int8", shards=1)
    assert predict(plan, Workload(1_000_000, 1_280), REFERENCE).recall == pytest.approx(0.898, abs=0.02)


def test_shards_help_as_far_as_there_are_cores() -> None:
    many = Workload(100_000_000, 1_280)
    one, two, four = (predict(replace(PLAN, shards=count), many, REFERENCE) for count in (1, 2, 4))
    assert two.p50_ms < one.p50_ms
    assert two.core_ms > one.core_ms  # each shard re-ranks
    assert four.p50_ms > two.p50_ms  # the reference has two cores
    assert one.recall < two.recall < four.recall


def test_advises_the_fastest_plan_with_enough_recall() -> None:
    found = advise(WORKLOAD, REFERENCE)
    assert found.recall >= 0.95
    for plan in enumerate_plans(WORKLOAD):
        other = predict(plan, WORKLOAD, REFERENCE)
        assert other.recall < 0.95 or other.p50_ms >= found.p50_ms


def test_advises_the_highest_recall_if_none_suffices() -> None:
    workload = Workload(1_000_000_000, 1_280, recall=0.9999, shards=24)
    found = advise(workload, REFERENCE)
    assert found.recall < 0.9999
    assert found.recall == max(predict(plan, workload, REFERENCE).recall for plan in enumerate_plans(workload))
    said = dict(summarize(found, workload, REFERENCE))
    assert "below the required 0.9999" in said["recall"]
    texts = [text for subject, text in summarize(found, workload, REFERENCE) if not subject]
    assert "1,000 times" in texts[-1]
    assert "number of pivots is 16,384" in texts[0]


def test_shards_stay_within_the_recommended_size() -> None:
    workload = Workload(1_000_000_000, 1_280)
    found = advise(workload, REFERENCE)
    assert found.vector_bytes / found.plan.shards <= MAX_SHARD_BYTES


def test_concurrent_queries_need_cores() -> None:
    alone = advise(WORKLOAD, REFERENCE)
    busy = advise(replace(WORKLOAD, queries_per_second=1_000), REFERENCE)
    assert alone.cores is None
    assert busy.cores is not None
    assert busy.cores >= 1_000 * busy.core_ms / 1e3
    assert busy.core_ms <= alone.core_ms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"documents": 0}, "documents is 0"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"recall": 1.0}, "recall is 1.0"),
        ({"recall": float("nan")}, "recall is nan"),
        ({"shards": 0}, "shards is 0"),
        ({"queries_per_second": 0.0}, "queries_per_second is 0"),
    ],
)
def test_workloads_out_of_range_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Workload(**{"documents": 10, "dimensions": 4, **options})  # type: ignore[arg-type]


def test_fit_recovers_the_costs_behind_the_times() -> None:
    kinds = [(8, 900, 0, 0, 0), (64, 7_000, 0, 0, 0), (64, 60_000, 0, 0, 0), (16, 2_000, 0, 100, 0)]
    kinds += [(16, 2_000, 0, 100, 1_000), (16, 2_000, 200, 0, 0), (16, 2_000, 1_000, 0, 0)]
    costs = (0.7, 0.015, 2e-5, 0.0025, 0.0009, 0.0003)
    seen = [Observation(*kind[:4], ms=float(np.dot(costs, (1, *kind))), sketch=kind[4]) for kind in kinds]
    assert fit_costs(seen) == pytest.approx(
        {"fixed_ms": 0.7, "clause_us": 15, "posting_ns": 20, "float32_us": 2.5, "int8_us": 0.9, "sketch_us": 0.3}
    )


def test_fitted_costs_are_never_negative() -> None:
    rng = np.random.default_rng(1)
    kinds = [(8, 900, 0, 0, 0), (64, 7_000, 0, 0, 0), (64, 60_000, 0, 0, 0), (16, 2_000, 0, 200, 0)]
    kinds += [(16, 2_000, 200, 0, 0), (16, 2_000, 0, 100, 900)]
    for _ in range(50):
        assert (
            min(fit_costs([Observation(*kind[:4], float(rng.exponential()), kind[4]) for kind in kinds]).values()) >= 0
        )
    with pytest.raises(InvalidInput, match="3 kinds of search are too few to fit 6 costs"):
        fit_costs([Observation(*kind[:4], 1.0, kind[4]) for kind in kinds[3:]])


def test_summary_names_the_origin_of_the_figures() -> None:
    said = dict(summarize(advise(WORKLOAD, REFERENCE), WORKLOAD, REFERENCE))
    assert said["figures"] == REFERENCE.machine
    assert "R@10" in said["recall"]
    assert "extrapolated" not in " ".join(said.values())
