"""Presets: the number of pivots by the number of documents, and the number of candidates that an index re-ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.presets import MAX_PIVOTS, MIN_PIVOTS, PRESETS, PresetName, select_encoder
from deepterms.errors import InvalidInput
from deepterms.search.options import SearchOptions


def clustered(count: int, *, seed: int = 0, dimensions: int = 32) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((50, dimensions))
    rows = centres[rng.integers(0, 50, count)] + 0.5 * rng.standard_normal((count, dimensions))
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    ("documents", "pivots"),
    [
        (1, 256),
        (4_000, 1_024),
        (20_000, 4_096),
        (100_000, 4_096),
        (200_000, 8_192),
        (500_000, 8_192),
        (1_000_000, 16_384),
        (2_000_000, 32_768),
        (10**9, 65_536),
    ],
)
def test_pivot_count_of_the_balanced_preset(documents: int, pivots: int) -> None:
    assert PRESETS["balanced"].choose_pivot_count(documents) == pivots


@pytest.mark.parametrize("preset", ["small", "balanced", "accurate"])
def test_more_documents_never_get_fewer_pivots(preset: PresetName) -> None:
    counts = [PRESETS[preset].choose_pivot_count(documents) for documents in range(1, 8_000_000, 3_997)]
    assert counts == sorted(counts)
    assert counts[0] == MIN_PIVOTS
    assert counts[-1] == MAX_PIVOTS


def test_each_preset_spends_more_than_the_previous_one() -> None:
    small, balanced, accurate = (PRESETS[name] for name in ("small", "balanced", "accurate"))
    for fewer, more in ((small, balanced), (balanced, accurate)):
        assert fewer.documents_per_pivot >= more.documents_per_pivot
        assert fewer.top_k <= more.top_k
        assert fewer.query_top_k <= more.query_top_k
        assert fewer.rerank < more.rerank


@pytest.mark.parametrize("preset", ["small", "balanced", "accurate"])
def test_auto_applies_the_preset_for_the_document_count(preset: PresetName) -> None:
    index = dt.MemoryIndex("auto", features=clustered(600), documents=20_000, preset=preset)
    wanted = PRESETS[preset]
    encoder = index.encoder
    assert isinstance(encoder, dt.PivotPermutation)
    assert len(encoder.pivots) == wanted.choose_pivot_count(20_000)
    assert (encoder.top_k, encoder.query_top_k, index.rerank) == (wanted.top_k, wanted.query_top_k, wanted.rerank)


def test_document_count_defaults_to_the_features() -> None:
    sample = clustered(9_000)
    selected = select_encoder("auto", features=sample)
    assert selected.encoder.vocabulary_size == 2_048
    assert selected.encoder == select_encoder("auto", features=sample, documents=9_000).encoder


def test_auto_finds_the_nearest() -> None:
    rows, queries = clustered(3_000), clustered(20, seed=1)
    index = dt.MemoryIndex("auto", features=rows)
    index.add([str(row) for row in range(len(rows))], rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = 0
    for query in queries:
        true = {str(row) for row in np.argsort(-(unit @ query))[:10]}
        found += len(true.intersection(index.search(query).ids))
    assert found >= 0.9 * 10 * len(queries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "auto"}, "pass features="),
        ({"encoder": "pivots"}, "encoder is 'pivots'; expected an encoder, or 'auto'"),
        ({"encoder": "auto", "features": np.eye(4), "preset": "large"}, "preset is 'large'; expected one of small"),
        ({"encoder": "auto", "features": np.eye(4), "documents": 0}, "documents is 0"),
        ({"encoder": "auto", "features": np.eye(4)[:1]}, "need at least 2 features; got 1"),
        ({"encoder": "auto", "features": [1.0, 2.0]}, r"features have shape \(2,\)"),
        ({"encoder": dt.DeepPermutation(4, top_k=2), "features": np.eye(4)}, "omit them"),
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
