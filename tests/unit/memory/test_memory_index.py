"""MemoryIndex against brute force over the term frequencies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.memory import memory_index, segments


def features(count: int, seed: int = 0, dimensions: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_DOCUMENTS", 16)
    monkeypatch.setattr(memory_index, "SEGMENT_DOCUMENTS", 16)


def brute_force(index: dt.MemoryIndex, kept: dict[str, NDArray[np.float32]], query: NDArray[np.float32]) -> Any:
    encoder = index.encoder
    weights = encoder.encode_queries(query).matrix
    scored = [(-int((encoder.encode(row).matrix @ weights.T).sum()), id) for id, row in kept.items()]
    return [(id, -score) for score, id in sorted(scored) if score < 0]


@pytest.mark.usefixtures("small_segments")
def test_equals_brute_force_after_every_write() -> None:
    rng = np.random.default_rng(5)
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    kept: dict[str, NDArray[np.float32]] = {}
    for step in range(30):
        count = int(rng.integers(1, 25))
        ids = [f"d{n}" for n in rng.choice(90, count, replace=False)]
        rows = features(count, seed=step)
        assert index.add(ids, rows).succeeded == count
        kept.update(zip(ids, rows, strict=True))
        gone = [f"d{n}" for n in rng.choice(90, 5, replace=False)]
        assert index.delete(gone).succeeded == 5
        for id in gone:
            kept.pop(id, None)
        query = features(1, seed=1000 + step)
        found = [(hit.id, hit.score) for hit in index.search(query[0], k=100, rerank=0)]
        assert found == brute_force(index, kept, query)
        assert index.search(query[0], k=7, rerank=0).ids == [id for id, _ in found[:7]]
    assert index.count() == len(kept)


def test_equal_scores_are_ordered_by_id() -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8), store_vectors=False)
    same = np.repeat(features(1), 5, axis=0)
    index.add(["e", "b", "d", "a", "c"], same)
    assert index.search(same[0], k=3).ids == ["a", "b", "c"]


def test_rerank_is_the_exact_cosine() -> None:
    rows, query = features(200), features(1, seed=1)[0]
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=4))
    index.add([f"d{n:03}" for n in range(200)], rows * 7)  # scaling makes no difference
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    candidates = index.search(query, k=50, rerank=0).ids
    hits = index.search(query, k=5, rerank=50)
    expected = sorted(candidates, key=lambda id: -cosines[int(id[1:])])[:5]
    assert hits.ids == expected
    np.testing.assert_allclose([hit.score for hit in hits], [cosines[int(id[1:])] for id in expected], atol=1e-6)


@pytest.mark.parametrize("store_vectors", [True, False])
def test_search_by_id_excludes_the_document(store_vectors: bool) -> None:
    rows = features(50)
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8), store_vectors=store_vectors)
    index.add([f"d{n}" for n in range(50)], rows)
    hits = index.search_by_id("d7", k=10, rerank=0)
    assert hits.ids == [id for id in index.search(rows[7], k=11, rerank=0).ids if id != "d7"]
    with pytest.raises(InvalidInput, match="no document 'nobody'"):
        index.search_by_id("nobody")


def test_get_returns_what_was_added() -> None:
    rows = features(3)
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    index.add(["a", "b", "c"], rows, metadata=[{"n": 1}, {}, {"n": [2, 3]}])
    document = index.get("c")
    assert document is not None
    assert document.terms == index.encoder.encode(rows[2]).to_terms()[0]
    assert document.metadata == {"n": [2, 3]}
    assert document.vector is not None
    np.testing.assert_allclose(document.vector, rows[2] / np.linalg.norm(rows[2]), rtol=1e-6)
    assert index.get("d") is None


@pytest.mark.usefixtures("small_segments")
def test_filters_count_and_search() -> None:
    rows = features(40)
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    index.add([f"d{n}" for n in range(40)], rows, metadata=[{"year": 2000 + n % 4} for n in range(40)])
    index.delete(["d1", "d5"])
    wanted = {"term": {"metadata.year": 2001}}
    assert index.count(filter=wanted) == 8
    hits = index.search(rows[9], k=40, filter=wanted)
    assert set(hits.ids) <= {f"d{n}" for n in range(9, 40, 4)}
    assert hits[0].id == "d9"
    assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_a_bad_document_does_not_stop_the_others() -> None:
    rows = features(6)
    rows[1, 3], rows[2] = np.nan, 0
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    metadata: list[dict[str, Any]] = [{}, {}, {}, {"x": float("nan")}, {}, {}]
    report = index.add(["a", "b", "c", "d", "e", "a"], rows, metadata=metadata)
    assert report.succeeded == 2
    assert [(failure.id, failure.reason.split(";")[0][:40]) for failure in report.failed] == [
        ("b", "the feature has a NaN or infinite compon"),
        ("c", "the feature is all zero, so it has no di"),
        ("d", "metadata.x is nan, which JSON cannot rep"),
        ("a", "the id occurred earlier in this call"),
    ]
    assert index.count() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k is 0"), ({"rerank": -1}, "rerank is -1"), ({"rerank": 5}, "stores no vectors")],
)
def test_impossible_searches_are_rejected(options: dict[str, Any], message: str) -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8), store_vectors=False)
    with pytest.raises(InvalidInput, match=message):
        index.search(features(1)[0], **options)


def test_an_empty_index_can_be_searched() -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    assert len(index.search(features(1)[0])) == 0
    assert index.count() == 0
    assert index.add([], np.empty((0, 32))).succeeded == 0


@pytest.mark.parametrize("query", [np.zeros(8), np.full(8, np.nan)])
def test_a_query_without_a_direction_is_rejected_even_if_all_documents_are_compared(query: NDArray[Any]) -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(8, top_k=4))
    index.add(["a"], np.eye(1, 8, dtype=np.float32))
    with pytest.raises(InvalidInput, match="cannot be encoded"):
        index.search(query, recall=0.9)
