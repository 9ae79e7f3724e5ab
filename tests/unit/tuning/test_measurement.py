"""Tuning a MemoryIndex: settings are chosen on half of the queries, verified on the other, and kept by searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.tuning import SearchSetting, Tuning
from deepterms.tuning.bounds import bound_recall
from deepterms.tuning.frontier import keep_cheapest
from deepterms.tuning.measurement import is_beaten, list_settings
from deepterms.tuning.progress import Neighbours, TuningState
from tests.unit.tuning.test_selection import clustered, fill, find_recall

ROWS = clustered(1_000)
PIVOTS = dt.sample_pivots(ROWS, 128, method="kmeans")
ENCODER = dt.PivotPermutation(PIVOTS, top_k=2, query_top_k=4)


@pytest.mark.parametrize(
    "encoder", [ENCODER, dt.DeepPermutation(32, top_k=8), dt.ScalarQuantization(32, top_k=8)], ids=["pivots", "k", "sq"]
)
def test_a_tuned_index_keeps_its_recall_on_other_queries(encoder: Any) -> None:
    index = fill(dt.MemoryIndex(encoder), ROWS)
    before = find_recall(index, ROWS, clustered(60, seed=4), rerank=20)
    tuning = index.tune(recall=0.95, sample=80)
    assert index.tuning == tuning
    assert tuning.source == "documents"
    assert tuning.documents == 1_000
    assert before < 0.95 <= find_recall(index, ROWS, clustered(60, seed=4)) + 0.01
    assert find_recall(index, ROWS, clustered(60, seed=4), recall=1.0) == 1.0


def test_a_lower_recall_takes_a_cheaper_setting() -> None:
    index = fill(dt.MemoryIndex(ENCODER), ROWS)
    tuning = index.tune(recall=0.95, sample=80)
    assert tuning.choose(0.7).ms <= tuning.choose().ms <= tuning.choose(1.0).ms
    query = clustered(1, seed=5)[0]
    assert index.search(query).recall == tuning.choose().recall
    assert index.search(query, recall=0.7).recall == tuning.choose(0.7).recall
    assert index.search(query, recall=0.7, rerank=50).recall is None
    assert index.search(query, effort=0.5).recall is None
    assert [hits.recall for hits in index.search_many([query], recall=0.7)] == [tuning.choose(0.7).recall]
    assert index.search_by_id("7", recall=0.7).recall == tuning.choose(0.7).recall


def test_settings_are_verified_with_queries_that_did_not_choose_them() -> None:
    asked = clustered(60, seed=6)
    index = fill(dt.MemoryIndex(ENCODER), ROWS)
    tuning = index.tune(queries=asked)
    assert tuning.source == "queries"
    assert tuning.queries == 30
    for setting in tuning.settings:
        assert setting.bound < setting.recall
        index.tuning = tuning.model_copy(update={"settings": (setting,), "recall": min(setting.recall, 1e-9)})
        assert setting.verified == pytest.approx(find_recall(index, ROWS, asked[1::2]), abs=1e-9)
        assert setting.recall == pytest.approx(find_recall(index, ROWS, asked[::2]), abs=1e-9)


def test_a_document_is_not_its_own_neighbour() -> None:
    rows = np.eye(40, dtype=np.float32)
    index = fill(dt.MemoryIndex(dt.DeepPermutation(40, top_k=4)), rows)
    seen: list[list[str]] = []
    search = index._search

    def listen(asked: Any, options: Any) -> dt.Hits:
        hits = search(asked, options)
        seen.append(hits.ids)
        return hits

    index._search = listen  # type: ignore[method-assign]
    index.tune(sample=20)
    assert all(len(ids) <= 11 for ids in seen)
    assert index.tuning is not None
    assert all(setting.recall < 1 or setting.compares == "all" for setting in index.tuning.settings)


def test_filters_keep_the_recall_of_a_tuned_index() -> None:
    rows = clustered(3_000)
    draws = np.random.default_rng(3).permutation(3_000) / 3_000
    index = dt.MemoryIndex("auto", features=rows)
    index.add([str(row) for row in range(3_000)], rows, metadata=[{"draw": float(draw)} for draw in draws])
    index.tune(sample=40)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for share in (0.5, 0.1, 0.01):
        kept = np.flatnonzero(draws < share)
        found = []
        for query in clustered(50, seed=7):
            true = {str(row) for row in kept[np.argsort(-(unit[kept] @ query))[:10]]}
            hits = index.search(query, filter={"range": {"metadata.draw": {"lt": share}}})
            found.append(len(true.intersection(hits.ids)) / 10)
        assert np.mean(found) >= 0.94, share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": clustered(5)}, "5 queries are too few"),
        ({"sample": 10}, "10 queries are too few"),
        ({"recall": 1.5}, "recall is 1.5"),
        ({"queries": np.ones((30, 3))}, r"features have shape \(30, 3\)"),
    ],
)
def test_what_cannot_be_measured_is_rejected(options: dict[str, Any], message: str) -> None:
    index = fill(dt.MemoryIndex(ENCODER), ROWS)
    with pytest.raises(InvalidInput, match=message):
        index.tune(**options)


def test_an_empty_index_and_one_without_vectors_cannot_be_tuned() -> None:
    with pytest.raises(InvalidInput, match="no neighbours in the index"):
        dt.MemoryIndex(ENCODER).tune(queries=ROWS[:40])
    with pytest.raises(InvalidInput, match="stores no vectors"):
        fill(dt.MemoryIndex(ENCODER, store_vectors=False), ROWS).tune()


def test_an_untuned_index_compares_all_documents_to_keep_a_recall(caplog: pytest.LogCaptureFixture) -> None:
    index = fill(dt.MemoryIndex(ENCODER), ROWS)
    assert find_recall(index, ROWS, clustered(5, seed=1), recall=0.9) == 1.0
    assert "no recall was measured, so searches compare all documents; run tune()" in caplog.text
    assert len(caplog.records) == 1


def test_the_bound_lies_below_the_mean_and_rises_with_the_number_of_queries() -> None:
    assert bound_recall([1.0] * 20) < bound_recall([1.0] * 400) < 1
    assert bound_recall([]) == 0
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):  # the true mean is .9
        shares = rng.binomial(10, 0.9, size=100) / 10
        kept += bound_recall(shares) <= 0.9
    assert kept / 400 >= 0.95


def test_only_settings_that_nothing_beats_are_kept() -> None:
    settings = [SearchSetting(words=words, recall=recall, ms=ms) for words, recall, ms in
                [(1, 0.5, 1), (2, 0.4, 2), (3, 0.9, 3), (4, 0.9, 2.5), (5, 0.95, 9)]]  # fmt: skip
    assert [setting.words for setting in keep_cheapest(settings)] == [1, 4, 5]


@pytest.mark.parametrize(
    ("setting", "reached"),
    [
        ({"recall": 0.951, "bound": 0.941}, True),
        ({"recall": 0.949, "bound": 0.945}, False),
        ({"recall": 0.96, "bound": 0.939}, False),
        ({"recall": 0.96, "bound": 0.95, "verified": 0.944}, False),
        ({"recall": 0.96, "bound": 0.95, "verified": 0.946}, True),
        ({"compares": "all"}, True),
    ],
)
def test_a_recall_is_reached_on_both_halves(setting: dict[str, Any], reached: bool) -> None:
    assert SearchSetting(**setting).reaches(0.95) == reached


def test_tuning_is_read_back_and_another_form_is_ignored() -> None:
    tuning = Tuning(documents=5, queries=20, source="documents", settings=(SearchSetting(words=3, recall=0.9),))
    meta = json.loads(json.dumps(tuning.to_meta()))
    assert Tuning.parse(meta) == tuning
    assert Tuning.parse(meta | {"later": 1}) == tuning
    assert Tuning.parse(None) is Tuning.parse(meta | {"source": "moon"}) is Tuning.parse([1]) is None


def test_a_trial_drops_what_is_clearly_worse_and_nothing_that_may_find_more() -> None:
    fast, slow, poor, deep = (SearchSetting(words=words) for words in (1, 2, 3, 4))
    trial = {fast: ([0.9, 1.0], 2.0), slow: ([0.9, 0.9], 3.0), poor: ([0.5, 0.7], 1.0), deep: ([0.9, 1.0], 20.0)}
    assert [is_beaten(setting, trial) for setting in (fast, slow, poor, deep)] == [False, True, False, False]
    everything = {fast: ([1.0, 1.0], 1.0), deep: ([1.0, 1.0], 9.0)}
    assert not is_beaten(deep, everything)


def test_no_setting_has_more_codewords_than_queries_can_have() -> None:
    assert max(setting.words for setting in list_settings(ENCODER, documents=1_000)) == 128
    assert max(setting.words for setting in list_settings(dt.DeepPermutation(32, top_k=8), documents=1_000)) == 8
    assert max(setting.candidates for setting in list_settings(ENCODER, documents=1_000)) == 500


def test_neighbours_survive_an_interruption(tmp_path: Path) -> None:
    path, about = tmp_path / "state", {"index": "a"}
    TuningState(path, about).write(3, Neighbours([0.9, 0.8], 1.5))
    with path.open("a") as file:
        file.write("[4, [0.7")  # the process ended here
    again = TuningState(path, about)
    assert again.read(3) == Neighbours([0.9, 0.8], 1.5)
    assert again.read(4) is None
    again.write(4, Neighbours([0.7], 1.0))
    assert TuningState(path, about).read(4) == Neighbours([0.7], 1.0)
    with pytest.raises(InvalidInput, match="of another index"):
        TuningState(path, {"index": "b"})
    path.write_text("not ours")
    with pytest.raises(InvalidInput, match="is not the state of a tuning"):
        TuningState(path, about)


def test_equally_near_documents_count_as_found() -> None:
    assert Neighbours([0.9, 0.8], 1).count_found([0.9, 0.8, 0.8]) == 1
    assert Neighbours([0.9, 0.8], 1).count_found([0.9, 0.7]) == 0.5
    assert Neighbours([], 1).count_found([]) == 1
