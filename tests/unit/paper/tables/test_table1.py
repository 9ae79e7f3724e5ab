from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, InvalidInput
from deepterms.paper.tables.lower_bound import ScanResult
from deepterms.paper.tables.posting_index import choose_layout, render_codewords
from deepterms.paper.tables.synthetic import SyntheticCollection
from deepterms.paper.tables.table1 import Table1, _require_same_hits
from deepterms.paper.tables.timed_searches import TimedSearches, build_exhaustive_body
from deepterms.schema.layouts import find_layout
from deepterms.terms import TermFrequencies


def test_codewords_are_rendered_like_the_pipeline_does() -> None:
    terms = TermFrequencies.from_terms([{"t1": 2, "t30": 1}, {"t4": 3}], vocabulary_size=40)
    assert render_codewords(terms, find_layout("frequencies")) == ['"t1|2 t30|1"', '"t4|3"']
    assert render_codewords(terms, find_layout("words")) == ['"t1 t1 t30"', '"t4 t4 t4"']
    assert render_codewords(terms, find_layout("rank_features")) == ['{"t1":2,"t30":1}', '{"t4":3}']


def test_an_exhaustive_search_counts_all_and_fetches_ids() -> None:
    terms = TermFrequencies.from_terms([{"t1": 2, "t30": 1}], vocabulary_size=40)
    body = build_exhaustive_body(terms, layout=find_layout("frequencies"), k=7)
    assert body["track_total_hits"] is True
    assert "rescore" not in body
    assert (body["size"], body["_source"], body["docvalue_fields"]) == (7, False, ["id"])
    assert len(body["query"]["bool"]["should"]) == 2


def test_quantiles_cover_all_searches() -> None:
    figures = TimedSearches(ms=[float(number) for number in range(1, 101)]).summarize()
    assert figures == pytest.approx({"mean_ms": 50.5, "p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01})


def scanned(touched: int, best: list[int]) -> ScanResult:
    return ScanResult(np.ones(1), np.ones(1, np.int64), np.array([touched]), np.array([best]))


def test_different_hits_are_rejected() -> None:
    searched = TimedSearches(ms=[1.0], touched=[5], best=[[21_413_400.0, 7.0]])
    _require_same_hits(
        searched, scanned(5, [21_413_401, 7]), index="it"
    )  # float32 cannot represent odd numbers of this size
    with pytest.raises(ClusterError, match="matched 5 documents in it, but 6 documents of the collection"):
        _require_same_hits(searched, scanned(6, [21_413_401, 7]), index="it")
    for best in ([21_413_401, 8], [21_413_409, 7]):
        with pytest.raises(ClusterError, match="has different scores in it"):
            _require_same_hits(searched, scanned(5, best), index="it")
    _require_same_hits(TimedSearches(ms=[1.0], touched=[1], best=[[3.0]]), scanned(1, [3, 0]), index="it")


@pytest.mark.cluster
def test_table1_on_a_real_engine(cluster: Any) -> None:
    table = Table1(Cluster(cluster), SyntheticCollection(300, 64, (5, 20), seed=77), choose_layout(Cluster(cluster)))
    try:
        assert table.load() == [5, 20]
        assert table.load() == []  # already filled
        with pytest.raises(InvalidInput, match="expected at least 1 query and 1 to 300 hits"):
            table.measure(queries=1, hits=301)
        done: list[tuple[str, int, int]] = []
        rows = table.measure(queries=4, hits=10, on_progress=lambda *step: done.append(step))
        assert [row["top_k"] for row in rows] == [5, 20]
        assert {step[0] for step in done} == {"searching", "scanning"}
        for row in rows:
            assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
            assert row["ratio_to_limit"] > 1
            assert 0 < row["touched"] <= 300
            assert row["bytes"] > 0
        # With a document deleted, the engine no longer does the same work as the scan.
        index = table.indices[20]
        index.cluster.request(
            "POST",
            f"/{index.full_name}/_delete_by_query",
            body={"query": {"term": {"_id": "7"}}},
            params={"refresh": True},
        )
        with pytest.raises(ClusterError, match="delete it and load it again"):
            table.measure(queries=20, hits=10)
        assert table.load() == [20]  # no longer complete
    finally:
        table.drop()
    assert all(index.count() == 0 for index in table.indices.values())
