"""Selection: what ``auto`` chooses keeps its recall on other queries, whatever the descriptors are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.search.options import SearchOptions
from deepterms.tuning.selection import choose_pivot_counts, select_encoder


def clustered(count: int, *, seed: int = 0, dimensions: int = 32) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((50, dimensions))
    rows = centres[rng.integers(0, 50, count)] + 0.5 * rng.standard_normal((count, dimensions))
    return rows.astype(np.float32)


def uniform(count: int, *, seed: int = 0, dimensions: int = 48) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def find_recall(
    index: dt.MemoryIndex | dt.SurrogateIndex, rows: NDArray[np.float32], queries: NDArray[np.float32], **options: Any
) -> float:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = 0
    for query in queries:
        true = {str(row) for row in np.argsort(-(unit @ query))[:10]}
        found += len(true.intersection(index.search(query, **options).ids))
    return found / (10 * len(queries))


def fill(index: dt.MemoryIndex, rows: NDArray[np.float32]) -> dt.MemoryIndex:
    index.add([str(row) for row in range(len(rows))], rows)
    return index


@pytest.mark.parametrize(
    ("documents", "pivots"),
    [
        (1, [256]),
        (4_000, [512, 256]),
        (20_000, [2_048, 1_024, 512]),
        (100_000, [8_192, 4_096, 2_048]),
        (1_000_000, [65_536, 32_768]),
        (10**9, [65_536]),
    ],
)
def test_numbers_of_pivots_to_try(documents: int, pivots: list[int]) -> None:
    assert choose_pivot_counts(documents) == pivots


@pytest.mark.parametrize("make", [clustered, uniform])
@pytest.mark.parametrize("recall", [0.8, 0.95, 0.99])
def test_auto_keeps_the_recall_on_queries_that_chose_nothing(make: Any, recall: float) -> None:
    rows, queries = make(4_000), make(100, seed=1)
    index = fill(dt.MemoryIndex("auto", features=rows, recall=recall), rows)
    assert index.tuning is not None
    assert index.tuning.recall == recall
    assert find_recall(index, rows, queries) >= recall - 0.01


def test_a_sample_stands_for_more_documents() -> None:
    rows, queries = clustered(12_000), clustered(80, seed=1)
    index = fill(dt.MemoryIndex("auto", features=rows[:3_000], documents=12_000), rows)
    assert index.tuning is not None
    assert index.tuning.documents == 12_000
    assert find_recall(index, rows, queries) >= 0.94


def test_where_no_setting_reaches_the_recall_all_documents_are_compared(caplog: pytest.LogCaptureFixture) -> None:
    rows, queries = uniform(2_000), uniform(20, seed=1)
    index = fill(dt.MemoryIndex("auto", features=rows, recall=1.0), rows)
    assert index.tuning is not None
    assert index.tuning.choose().compares == "all"
    assert find_recall(index, rows, queries) == 1
    assert "no measured setting reaches a recall of 1, so searches compare all documents" in caplog.text
    assert len(caplog.records) == 1  # the first search says so, not every one
    hits = index.search(queries[0])
    assert hits.recall == 1
    assert hits.terms is None


def test_few_rows_promise_nothing_unless_all_documents_are_few(caplog: pytest.LogCaptureFixture) -> None:
    few = dt.MemoryIndex("auto", features=clustered(50))
    assert few.tuning is not None
    assert few.tuning.choose().compares == "all"
    assert dt.MemoryIndex("auto", features=clustered(50), documents=10**6).tuning is None
    assert "50 usable rows are too few to promise a recall" in caplog.text


def test_without_vectors_nothing_is_promised() -> None:
    index = fill(dt.MemoryIndex("auto", features=clustered(600), store_vectors=False), clustered(600))
    assert index.tuning is None
    assert len(index.search(clustered(1, seed=3)[0])) == 10
    with pytest.raises(InvalidInput, match=r"recall=0\.9 cannot be kept, because the index stores no vectors"):
        index.search(clustered(1, seed=3)[0], recall=0.9)


def test_a_number_of_candidates_takes_the_place_of_the_promise() -> None:
    index = dt.MemoryIndex("auto", features=clustered(600), rerank=30)
    assert index.rerank == 30
    assert index.tuning is None


def test_unusable_and_duplicate_rows_do_no_harm() -> None:
    rows = np.concatenate([clustered(500), np.zeros((20, 32)), np.full((20, 32), np.nan), np.ones((300, 32))])
    queries = clustered(40, seed=1)
    good = rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)].astype(np.float32)
    index = fill(dt.MemoryIndex("auto", features=good), good)
    assert find_recall(index, good[:500], queries) > 0.5
    assert select_encoder("auto", features=good).encoder == index.encoder


def test_equal_arguments_choose_equal_encoders() -> None:
    sample = clustered(2_000)
    selected = select_encoder("auto", features=sample)
    again = select_encoder("auto", features=sample, documents=2_000, recall=0.95)
    assert selected.encoder == again.encoder
    assert selected.tuning == again.tuning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "auto"}, "pass features="),
        ({"encoder": "pivots"}, "encoder is 'pivots'; expected an encoder, or 'auto'"),
        ({"encoder": "auto", "features": np.eye(4), "recall": 95}, "recall is 95; expected more than 0 and at most 1"),
        ({"encoder": "auto", "features": np.eye(4), "recall": 0}, "recall is 0; expected more than 0"),
        ({"encoder": "auto", "features": np.eye(4), "documents": 0}, "documents is 0"),
        ({"encoder": "auto", "features": np.eye(4)[:1]}, "need at least 2 features; got 1"),
        ({"encoder": "auto", "features": [1.0, 2.0]}, r"features have shape \(2,\)"),
        ({"encoder": dt.DeepPermutation(4, top_k=2), "features": np.eye(4)}, "omit them"),
        ({"encoder": dt.DeepPermutation(4, top_k=2), "recall": 0.9}, r"call tune\(\) on the filled index"),
        ({"encoder": dt.DeepPermutation(4, top_k=2), "rerank": -1}, "rerank is -1"),
    ],
)
def test_invalid_selections_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        dt.MemoryIndex(**options)


def test_rerank_comes_from_the_search_the_index_or_the_encoder() -> None:
    pivots = dt.Pivots(np.eye(4, dtype=np.float32))
    assert dt.MemoryIndex(dt.DeepPermutation(4, top_k=2)).rerank == 200
    assert dt.MemoryIndex(dt.PivotPermutation(pivots, top_k=2, query_top_k=3)).rerank == 500
    assert dt.MemoryIndex(dt.PivotPairs(pivots, top_k=2, query_top_k=3)).rerank == 500
    assert dt.MemoryIndex(dt.DeepPermutation(4, top_k=2), rerank=30).rerank == 30
    assert SearchOptions().count_candidates(stores_vectors=True, default=30) == 30
    assert SearchOptions(rerank=50).count_candidates(stores_vectors=True, default=30) == 50
    assert SearchOptions(k=40).count_candidates(stores_vectors=True, default=30) == 40
    assert SearchOptions().count_candidates(stores_vectors=False, default=30) == 0
    assert SearchOptions().count_candidates(stores_vectors=True, default=0) == 0


def test_a_search_re_ranks_as_many_as_the_index_sets() -> None:
    """With one candidate, the first hit is the nearest by pivots; with all candidates, it is the nearest of all."""
    rows, query = clustered(400), clustered(1, seed=2)[0]
    encoder = dt.PivotPermutation(dt.sample_pivots(rows, 16), top_k=2, query_top_k=16)
    by_default, few = dt.MemoryIndex(encoder), dt.MemoryIndex(encoder, rerank=1)
    for index in (by_default, few):
        index.add([str(row) for row in range(len(rows))], rows)
    assert few.search(query, k=1).ids == few.search(query, k=1, rerank=0).ids
    assert by_default.search(query, k=1).ids == by_default.search(query, k=1, rerank=400).ids
    assert by_default.search(query, k=1).ids != few.search(query, k=1).ids
