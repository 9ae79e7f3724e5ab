from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, InvalidInput
from deepterms.paper.tables.lower_bound import Scanned
from deepterms.paper.tables.posting_index import layout_for_lists, rendered
from deepterms.paper.tables.synthetic import Collection
from deepterms.paper.tables.table1 import Table1, _require_same
from deepterms.paper.tables.timed_searches import Searched, exhaustive_body
from deepterms.schema.layouts import find_layout
from deepterms.terms import TermFrequencies


def test_each_layout_gets_what_its_pipeline_would_write() -> None:
    terms = TermFrequencies.from_terms([{"t1": 2, "t30": 1}, {"t4": 3}], vocabulary_size=40)
    assert rendered(terms, find_layout("frequencies")) == ['"t1|2 t30|1"', '"t4|3"']
    assert rendered(terms, find_layout("words")) == ['"t1 t1 t30"', '"t4 t4 t4"']
    assert rendered(terms, find_layout("rank_features")) == ['{"t1":2,"t30":1}', '{"t4":3}']


def test_a_search_counts_all_and_fetches_ids_only() -> None:
    terms = TermFrequencies.from_terms([{"t1": 2, "t30": 1}], vocabulary_size=40)
    body = exhaustive_body(terms, layout=find_layout("frequencies"), k=7)
    assert body["track_total_hits"] is True
    assert "rescore" not in body
    assert (body["size"], body["_source"], body["docvalue_fields"]) == (7, False, ["id"])
    assert len(body["query"]["bool"]["should"]) == 2


def test_quantiles_are_of_all_searches() -> None:
    figures = Searched(ms=[float(number) for number in range(1, 101)]).figures()
    assert figures == pytest.approx({"mean_ms": 50.5, "p50_ms": 50.5, "p95_ms": 95.05, "p99_ms": 99.01})


def scanned(touched: int, best: list[int]) -> Scanned:
    return Scanned(np.ones(1), np.ones(1, np.int64), np.array([touched]), np.array([best]))


def test_times_of_different_work_are_refused() -> None:
    searched = Searched(ms=[1.0], touched=[5], best=[[21_413_400.0, 7.0]])
    _require_same(searched, scanned(5, [21_413_401, 7]), index="it")  # float32 has no odd numbers there
    with pytest.raises(ClusterError, match="matched 5 documents of it, and 6 of the collection"):
        _require_same(searched, scanned(6, [21_413_401, 7]), index="it")
    for best in ([21_413_401, 8], [21_413_409, 7]):
        with pytest.raises(ClusterError, match="has other scores in it"):
            _require_same(searched, scanned(5, best), index="it")
    _require_same(Searched(ms=[1.0], touched=[1], best=[[3.0]]), scanned(1, [3, 0]), index="it")


@pytest.mark.cluster
def test_a_table_on_a_real_engine(cluster: Any) -> None:
    table = Table1(Cluster(cluster), Collection(300, 64, (5, 20), seed=77), layout_for_lists(Cluster(cluster)))
    try:
        assert table.load() == [5, 20]
        assert table.load() == []  # they are there
        with pytest.raises(InvalidInput, match="hits of 300 documents"):
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
        # One document fewer with five codewords: what the engine does is not what the scan does.
        lists = table.indices[20]
        lists.cluster.request(
            "POST", f"/{lists.index}/_delete_by_query", body={"query": {"term": {"_id": "7"}}}, params={"refresh": True}
        )
        with pytest.raises(ClusterError, match="delete it and load it again"):
            table.measure(queries=20, hits=10)
        assert table.load() == [20]  # not complete any more
    finally:
        table.drop()
    assert all(lists.count() == 0 for lists in table.indices.values())
