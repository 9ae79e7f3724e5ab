"""A promised recall on real clusters: chosen by ``auto``, measured by ``tune``, kept by searches on every client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.doctor import examine
from deepterms.errors import ClusterError, InvalidInput
from deepterms.migration import migrate
from deepterms.schema.layouts import find_layout
from deepterms.schema.tuning import SearchSetting, Tuning
from deepterms.storage.concrete_index import write_tuning
from tests.integration.test_command_line import deepterms
from tests.unit.tuning.test_selection import clustered, find_recall, uniform

DOCUMENTS = 600


def fill_both(cluster: Any, name: str, rows: Any, **options: Any) -> tuple[dt.SurrogateIndex, dt.MemoryIndex]:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, name, replicas=0, **options)
    memory = dt.MemoryIndex(**(options | {"compare": index.compare}))
    draws = np.random.default_rng(5).permutation(len(rows)) / len(rows)
    ids, metadata = [str(row) for row in range(len(rows))], [{"draw": float(draw)} for draw in draws]
    assert index.add(ids, rows, metadata).succeeded == memory.add(ids, rows, metadata).succeeded == len(rows)
    index.refresh()
    return index, memory


@pytest.mark.parametrize("make", [clustered, uniform])
@pytest.mark.parametrize("recall", [0.9, 1.0])
def test_auto_searches_equally_in_a_cluster_and_in_memory(
    cluster: Any, unique_name: str, make: Any, recall: float
) -> None:
    rows, queries = make(DOCUMENTS), make(10, seed=1)
    index, memory = fill_both(cluster, unique_name, rows, encoder="auto", features=rows, recall=recall)
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    assert opened.encoder == index.encoder == memory.encoder
    assert opened.tuning == index.tuning == memory.tuning
    assert opened.tuning is not None
    assert opened.layout.name == "codewords"
    assert opened.rerank == index.rerank == memory.rerank
    for share in (None, 0.5, 0.1):
        options: dict[str, Any] = {} if share is None else {"filter": {"range": {"metadata.draw": {"lt": share}}}}
        for query, hits in zip(queries, opened.search_many(queries, **options), strict=True):
            one, expected = opened.search(query, **options), memory.search(query, **options)
            assert one.ids == hits.ids == expected.ids
            assert one.recall == hits.recall == expected.recall == opened.tuning.choose().recall


# Candidates enough for all that are listed: engines break ties between equal votes by their own numbers.
SETTINGS = (
    SearchSetting(words=3, candidates=200, recall=0.5, bound=0.5, ms=1),
    SearchSetting(words=6, compares="listed", recall=0.8, bound=0.8, ms=2),
    SearchSetting(words=12, candidates=300, recall=0.9, bound=0.9, ms=3),
)
PIVOTS = dt.sample_pivots(clustered(DOCUMENTS), 64, method="kmeans")
ENCODER = dt.PivotPermutation(PIVOTS, top_k=3, query_top_k=8)


@pytest.mark.parametrize("layout", ["codewords", "words", "rank_features"])
@pytest.mark.parametrize("shards", [1, 3])
def test_each_setting_finds_the_same_in_a_cluster_and_in_memory(
    cluster: Any, unique_name: str, layout: str, shards: int
) -> None:
    rows, queries = clustered(DOCUMENTS), clustered(8, seed=2)
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder=ENCODER, layout=layout, shards=shards, replicas=0, sketch=True
    )
    memory = dt.MemoryIndex(ENCODER, sketch=True)
    for target in (index, memory):
        target.add([str(row) for row in range(DOCUMENTS)], rows, [{"half": row % 2} for row in range(DOCUMENTS)])
    index.refresh()
    tuning = Tuning(recall=0.7, documents=DOCUMENTS, queries=20, source="documents", settings=SETTINGS)
    memory.tuning = tuning
    ((concrete, uuid),) = index.state.uuids.items()
    write_tuning(index.cluster, concrete, tuning, uuid=uuid)
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    assert opened.tuning == tuning
    for recall in (0.4, None, 0.95):  # by candidates, all listed, all documents
        for filter in (None, {"term": {"metadata.half": 1}}):
            if recall == 0.4 and shards > 1:
                continue  # each shard re-ranks its own candidates
            for query in queries:
                found, expected = (one.search(query, recall=recall, filter=filter) for one in (opened, memory))
                assert found.ids == expected.ids
                assert found.recall == expected.recall
                np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], atol=1e-6)


def test_a_tuned_index_keeps_its_recall_on_other_queries(cluster: Any, unique_name: str, tmp_path: Path) -> None:
    rows, queries = clustered(1_500), clustered(60, seed=4)
    index, _ = fill_both(cluster, unique_name, rows, encoder=ENCODER, compare="script")
    assert index.tuning is None
    before = find_recall(index, rows, queries, rerank=15)
    done: list[tuple[str, int, int]] = []
    state = tmp_path / "state"
    tuning = index.tune(sample=80, recall=0.9, state=state, on_progress=lambda *step: done.append(step))
    assert before < 0.9 - 0.01 <= find_recall(index, rows, queries)
    assert find_recall(index, rows, queries, recall=1.0) == 1
    assert {what for what, _, _ in done} >= {"comparing all documents", "measuring settings", "verifying settings"}
    assert index.tuning == dt.SurrogateIndex.open(cluster, unique_name).tuning == tuning
    assert tuning.documents == 1_500
    assert tuning.source == "documents"
    assert 0 < tuning.choose().ms < tuning.exhaustive_ms * 1.01
    # Resumed: the neighbours are read from the file.
    lines = state.read_text().splitlines()
    assert len(lines) == 81
    state.write_text("\n".join(lines[:50]) + "\n" + lines[50][:9])
    again = index.tune(sample=80, recall=0.95, state=state)
    assert again.recall == 0.95
    assert state.read_text().splitlines()[:50] == lines[:50]
    with pytest.raises(InvalidInput, match="of another index, or with other queries"):
        index.tune(sample=40, state=state)


def test_what_was_measured_survives_a_migration_that_changes_no_terms(cluster: Any, unique_name: str) -> None:
    rows = clustered(DOCUMENTS)
    index, _ = fill_both(cluster, unique_name, rows, encoder=ENCODER)
    tuning = index.tune(sample=40)
    migrate(cluster, unique_name, to=find_layout("words"))
    moved = dt.SurrogateIndex.open(cluster, unique_name)
    assert moved.layout.name == "words"
    assert moved.tuning == tuning.model_copy(update={"carried": True})
    assert any("a recall of 0.95" in finding.text for finding in examine(cluster, unique_name))
    fewer = dt.PivotPermutation(PIVOTS, top_k=2, query_top_k=8)
    migrate(cluster, unique_name, encoder=fewer)
    dropped = dt.SurrogateIndex.open(cluster, unique_name)
    assert dropped.encoder == fewer
    assert dropped.tuning is None
    assert any("no recall was measured" in finding.text for finding in examine(cluster, unique_name))


def test_the_handle_of_another_client_follows_after_reopening(cluster: Any, unique_name: str) -> None:
    index, _ = fill_both(cluster, unique_name, clustered(200), encoder=ENCODER)
    other = dt.SurrogateIndex.open(cluster, unique_name)
    index.tune(sample=40)
    assert other.tuning is None
    assert not other.reopen()
    assert other.tuning == index.tuning


def test_an_index_dropped_while_it_is_measured_is_not_written_to(cluster: Any, unique_name: str) -> None:
    index, _ = fill_both(cluster, unique_name, clustered(200), encoder=ENCODER)

    def replace(what: str, done: int, total: int) -> None:
        if what == "verifying settings" and done == total:
            index.drop()
            dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)

    with pytest.raises(ClusterError, match="was created again while it was measured"):
        index.tune(sample=40, on_progress=replace)
    assert dt.SurrogateIndex.open(cluster, unique_name).tuning is None


def test_the_depth_can_be_given_and_zero_is_one(cluster: Any, unique_name: str) -> None:
    rows = clustered(50)
    dt.deploy(cluster)
    dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(32, top_k=8), rerank=0, replicas=0).add(
        [str(row) for row in range(50)], rows
    )
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    opened.refresh()
    assert opened.rerank == 0
    assert opened.search(rows[7])[0].score == 204  # 8² + … + 1², the dot product with itself
    assert opened.search(rows[7], rerank=5)[0].score == pytest.approx(1.0, abs=1e-6)


def test_nothing_is_made_where_auto_cannot_choose(opensearch: Any, unique_name: str) -> None:
    dt.deploy(opensearch)
    with pytest.raises(InvalidInput, match="pass features="):
        dt.SurrogateIndex.create(opensearch, unique_name, encoder="auto")
    assert not opensearch.indices.exists(index=unique_name)


@pytest.mark.parametrize("encoder", ["auto --recall 0.9", "quantized --top-k 20"])
def test_the_command_line_makes_the_encoder_for_the_file(
    url: str, unique_name: str, tmp_path: Path, encoder: str
) -> None:
    rows = clustered(DOCUMENTS)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids.txt").write_text("".join(f"{row}\n" for row in range(DOCUMENTS)))
    options = ("--encoder", *encoder.split(), "--replicas", "0")
    done = deepterms("index", unique_name, "rows.npy", "--ids", "ids.txt", *options, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = deepterms("search", unique_name, "--id", "7", "--json", url=url, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 10
    tuned = deepterms("tune", unique_name, "--sample", "40", "--recall", "0.8", "--json", url=url, cwd=tmp_path)
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout)["recall"] == 0.8
    cheap = deepterms("search", unique_name, "--id", "7", "--recall", "0.5", url=url, cwd=tmp_path)
    assert "of the ten nearest" in cheap.stderr
    rejected = deepterms("tune", unique_name, "--recall", "0", url=url, cwd=tmp_path)
    assert rejected.returncode == 1
    assert "recall is 0.0; expected more than 0" in rejected.stderr
