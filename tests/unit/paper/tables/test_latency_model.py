from __future__ import annotations

import pytest

from deepterms.advice.costs import Observation
from deepterms.paper.tables.latency_model import (
    LatencyModel,
    describe_shortfall,
    fit_latency_model,
    predict_latencies,
)
from deepterms.paper.tables.table2 import count_busiest_shares


def test_the_fit_recovers_the_true_costs() -> None:
    true = LatencyModel(fixed_ms=2.0, clause_us=5.0, posting_ns=12.0)
    seen = [
        Observation(clauses, postings, 0, 0, true(shards=1, clauses=clauses, postings=postings))
        for clauses, postings in [(100, 1e5), (200, 2e5), (50, 5e4), (100, 6e3), (50, 3e3), (400, 4e5)]
    ]
    model = fit_latency_model(seen)
    assert (model.fixed_ms, model.clause_us, model.posting_ns) == pytest.approx((2, 5, 12))
    assert model.error == pytest.approx(0, abs=1e-6)


def test_the_error_is_the_largest_relative_error() -> None:
    seen = [Observation(10, postings, 0, 0, 1e-6 * postings) for postings in (1e6, 2e6, 3e6, 4e6, 5e6)]
    off = fit_latency_model([*seen, Observation(10, 3e6, 0, 0, 6.0)]).error
    assert 0.3 < off < 0.6


def test_cores_run_in_parallel_and_shards_of_a_core_in_turn() -> None:
    model = LatencyModel(fixed_ms=1.0, clause_us=10.0, posting_ns=20.0)
    assert model(shards=1, clauses=100, postings=1e6) == pytest.approx(1 + 1 + 20)
    assert model(shards=3, clauses=100, postings=1e6) == pytest.approx(1 + 3 * 21)
    predicted = predict_latencies(model, clauses=100, postings_per_document=2.5, bytes_per_document=200)
    largest = [row for row in predicted if row["documents"] == 1_000_000_000]
    assert [row["machines"] for row in largest] == [1, 4, 16, 64]
    assert [row["machines"] for row in predicted if row["documents"] == 1_000_000] == [1]
    assert largest[0]["ms"] == pytest.approx(2 + 2.5e9 / 16 * 20e-6)
    assert largest[3]["ms"] == pytest.approx(2 + 2.5e9 / 1024 * 20e-6, rel=1e-6)
    assert largest[1]["bytes_per_machine"] == 50e9


@pytest.mark.parametrize(
    ("shares", "nodes", "cores", "expected"),
    [(4, 1, 2, 4), (4, 2, 2, 2), (3, 2, 2, 2), (4, 3, 2, 3), (4, 4, 2, 2), (4, 4, 8, 1), (1, 4, 2, 1)],
)
def test_shares_on_the_busiest_core(shares: int, nodes: int, cores: int, expected: int) -> None:
    assert count_busiest_shares(shares, nodes=nodes, cores=cores) == expected


def test_a_row_slower_than_the_model_is_described() -> None:
    def row(nodes: int, *, nodes_per_core: int, p50_ms: float) -> dict[str, float]:
        return {"nodes": nodes, "shares": 2, "nodes_per_core": nodes_per_core, "p50_ms": p50_ms, "model_ms": 8.0}

    kept = [
        row(1, nodes_per_core=1, p50_ms=20),
        row(2, nodes_per_core=1, p50_ms=7),
        row(4, nodes_per_core=2, p50_ms=30),
    ]
    assert describe_shortfall(kept) == []
    (sentence,) = describe_shortfall([*kept, row(2, nodes_per_core=1, p50_ms=9), row(3, nodes_per_core=1, p50_ms=12.3)])
    assert "for 3 nodes and 2 shares it predicts 8 ms, while the measured p50 is 12.3 ms" in sentence
