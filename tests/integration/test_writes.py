"""Writes other than `add`: terms, metadata updates, deletion by filter, concurrent writers; statistics and export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import EncoderMismatch, InvalidInput
from deepterms.index import export, sending, updates

ENCODER = dt.DeepPermutation(32, top_k=8)


def features(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)


@pytest.fixture
def index(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    return dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)


@pytest.fixture
def filled(index: dt.SurrogateIndex) -> dt.SurrogateIndex:
    rows = features(9)
    index.add([f"d{n}" for n in range(9)], rows, metadata=[{"year": 2000 + n % 3, "n": n} for n in range(9)])
    index.refresh()
    return index


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Functions to call, each once, between reading documents and writing them."""
    meanwhile: list[Any] = []
    real = sending.send

    def send(*given: Any, **options: Any) -> Any:
        if meanwhile:
            meanwhile.pop()()
        return real(*given, **options)

    monkeypatch.setattr(updates, "send", send)
    yield meanwhile
    assert not meanwhile


def test_added_terms_score_like_descriptors(index: dt.SurrogateIndex) -> None:
    rows = features(20)
    memory = dt.MemoryIndex(ENCODER)
    ids, terms = [f"d{n}" for n in range(20)], ENCODER.encode(rows)
    for target in (index, memory):
        assert target.add_terms(ids, terms, metadata=[{"n": n} for n in range(20)]) == dt.WriteReport(20)
        target.refresh()
        stored = target.get("d7")
        assert stored is not None
        assert (stored.vector, stored.metadata) == (None, {"n": 7})
        assert stored.terms == terms.to_terms()[7]
    found, expected = (target.search(rows[3], k=20, rerank=0) for target in (index, memory))
    assert {hit.id: hit.score for hit in found} == {hit.id: hit.score for hit in expected}
    index.add(["d3"], rows[3:4])
    index.refresh()
    best, second = index.search(rows[3], k=2)
    assert best.id == "d3"
    assert best.score == pytest.approx(1, abs=5e-7)
    assert second.score == -1  # no vector to compare with


def test_unusable_terms_are_rejected(index: dt.SurrogateIndex) -> None:
    other = dt.DeepPermutation(16, top_k=8).encode(features(2)[:, :16])
    for target in (index, dt.MemoryIndex(ENCODER)):
        with pytest.raises(EncoderMismatch, match=r"vocabulary of 32 codewords; deep-permutation/d32/crelu/k8 has 64"):
            target.add_terms(["a", "b"], other)
        with pytest.raises(InvalidInput, match=r"got 1 ids, 2 terms"):
            target.add_terms(["a"], ENCODER.encode(features(2)))
        empty = dt.TermFrequencies.from_terms([{"t1": 1}, {}, {"t2": 2}], vocabulary_size=64)
        report = target.add_terms(["a", "b", "a"], empty)
        assert report.succeeded == 1
        assert [failure.id for failure in report.failed] == ["b", "a"]
        assert "no codeword" in report.failed[0].reason
        assert "occurred earlier" in report.failed[1].reason


def test_update_metadata_keeps_terms_and_vector(filled: dt.SurrogateIndex) -> None:
    before = filled.get("d4")
    report = filled.update_metadata(["d4", "never", "d5", "d4"], [{"title": "ü\n"}, {}, {}, {"n": 5}])
    assert report.succeeded == 2
    assert {failure.id for failure in report.failed} == {"never", "d4"}
    assert "call refresh()" in report.failed[1].reason
    filled.refresh()
    after = filled.get("d4")
    assert before is not None
    assert after is not None
    assert (after.terms, after.metadata) == (before.terms, {"title": "ü\n"})
    assert after.revision != before.revision
    np.testing.assert_array_equal(after.vector, before.vector)
    (hit,) = filled.search(features(9)[4], k=1)
    assert (hit.id, hit.metadata) == ("d4", {"title": "ü\n"})
    assert hit.score == pytest.approx(1, abs=5e-7)
    assert filled.count() == 9
    with pytest.raises(InvalidInput, match="aligned by position; got 1 ids, 2 metadata"):
        filled.update_metadata(["d4"], [{}, {}])


def test_a_concurrent_change_is_a_conflict_and_is_kept(filled: dt.SurrogateIndex, interrupted: list[Any]) -> None:
    interrupted.append(lambda: filled.add(["d1"], features(1, seed=9), metadata=[{"theirs": True}]))
    report = filled.update_metadata(["d0", "d1"], [{"mine": True}, {"mine": True}])
    assert report.succeeded == 1
    ((identifier, why),) = [(failure.id, failure.reason) for failure in report.failed]
    assert identifier == "d1"
    assert why.startswith("the document was changed meanwhile; read it again")
    filled.refresh()
    theirs = filled.get("d1")
    assert theirs is not None
    assert theirs.metadata == {"theirs": True}


def test_delete_by_filter_keeps_concurrent_changes(filled: dt.SurrogateIndex, interrupted: list[Any]) -> None:
    interrupted.append(lambda: filled.add(["d3"], features(1, seed=9), metadata=[{"year": 2020}]))
    report = filled.delete_by_filter({"term": {"metadata.year": 2000}})
    assert report.succeeded == 2
    assert [failure.id for failure in report.failed] == ["d3"]
    filled.refresh()
    assert filled.count() == 7
    assert filled.delete_by_filter({"term": {"metadata.year": 1}}) == dt.WriteReport(0)


def test_add_with_revisions_detects_changes(filled: dt.SurrogateIndex) -> None:
    read = [filled.get("d0"), filled.get("d1")]
    revisions = [stored.revision if stored else None for stored in read]
    filled.add(["d1"], features(1, seed=9))
    report = filled.add(["d0", "d1", "d2"], -features(3), revisions=[*revisions, None])
    assert report.succeeded == 2
    assert [failure.id for failure in report.failed] == ["d1"]
    with pytest.raises(InvalidInput, match="ids, features and revisions are aligned"):
        filled.add(["d0"], features(1), revisions=[])


def test_statistics_of_a_sample_are_close(index: dt.SurrogateIndex) -> None:
    memory, rows = dt.MemoryIndex(ENCODER), np.abs(features(600)) + features(600)  # some codewords are rarer
    for target in (index, memory):
        target.add([f"d{n}" for n in range(600)], rows)
        target.delete([f"d{n}" for n in range(0, 600, 6)])
        target.refresh()
    index.search(rows[0])
    exact, whole, part = memory.stats(), index.stats(), index.stats(sample=250)
    assert (exact.documents, exact.sampled, exact.query_ms) == (500, 500, None)
    assert (whole.documents, whole.sampled, part.sampled) == (500, 500, 250)
    assert whole.engine == str(index.cluster.engine)
    assert whole.bytes > 500 * 32 * 4
    assert whole.segments >= 1
    assert whole.query_ms is not None
    assert whole.query_ms >= 0
    same = ("terms_per_document", "longest_lists", "list_variation", "postings_per_query")
    assert [getattr(whole, name) for name in same] == [getattr(exact, name) for name in same]
    assert part.postings_per_query == pytest.approx(exact.postings_per_query, rel=0.05)
    assert part.list_variation == pytest.approx(exact.list_variation, rel=0.1)
    with pytest.raises(InvalidInput, match="expected 1 to 10,000"):
        index.stats(sample=0)


def test_statistics_encode_stored_vectors_as_queries(cluster: Any, unique_name: str) -> None:
    """Also with a sample."""
    dt.deploy(cluster)
    rows = np.random.default_rng(5).standard_normal((500, 32)).astype(np.float32)
    encoder = dt.PivotPermutation(dt.Pivots(rows[:100]), top_k=4, query_top_k=32)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, store_vectors="int8", replicas=0)
    index.add([f"d{n}" for n in range(500)], rows)
    index.refresh()
    lists = np.bincount(encoder.encode(rows).matrix.indices, minlength=100)
    exact = lists[encoder.encode_queries(rows).matrix.indices].sum() / 500
    assert index.stats().postings_per_query == pytest.approx(exact, rel=0.05)
    assert index.stats(sample=150).postings_per_query == pytest.approx(exact, rel=0.15)


def test_delete_by_filter_equals_that_in_memory(filled: dt.SurrogateIndex) -> None:
    memory = dt.MemoryIndex(ENCODER)
    memory.add([f"d{n}" for n in range(9)], features(9), metadata=[{"year": 2000 + n % 3, "n": n} for n in range(9)])
    condition = {"range": {"metadata.n": {"gte": 5}}}
    for target in (filled, memory):
        assert target.delete_by_filter(condition) == dt.WriteReport(4)
        target.refresh()
        assert target.update_metadata(["d0"], [{"n": 99}]) == dt.WriteReport(1)
        target.refresh()
        assert target.count(filter=condition) == 1
        assert target.count() == 5


def test_an_exported_store_rebuilds_an_equal_index(
    filled: dt.SurrogateIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "DOCUMENTS_PER_READ", 4)
    filled.add_terms(["no-vector"], ENCODER.encode(features(1)))
    filled.refresh()
    done: list[int] = []
    store = dt.export_features(filled, tmp_path / "store", on_progress=done.append)
    assert sum(done) == 10
    assert sorted(store.ids) == [f"d{n}" for n in range(9)]
    copy = dt.MemoryIndex(ENCODER)
    for batch in store.batches():
        copy.add(batch.ids, batch.features)
    for row in features(9):
        assert copy.search(row, rerank=0).ids[0] == filled.search(row, rerank=0).ids[0]
        assert copy.search(row)[0].score == pytest.approx(filled.search(row)[0].score, abs=5e-7)


def test_a_later_document_replaces_an_earlier_one_under_way(index: dt.SurrogateIndex) -> None:
    """The earlier version is the last of a thousand documents, the later one is alone."""
    rows = features(1_000)
    for attempt in range(3):
        ids = [*(f"d{attempt}-{row}" for row in range(999)), "x"]
        versions: list[Mapping[str, Any]] = [{"version": f"{attempt} first"} for _ in ids]
        second = (["x"], rows[:1], [{"version": f"{attempt} second"}])
        assert not index.add_batches([(ids, rows, versions), second]).failed
        index.refresh()
        document = index.get("x")
        assert document is not None
        assert document.metadata["version"] == f"{attempt} second"
