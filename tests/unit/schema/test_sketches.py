"""Tests of sketches: their bits in scripts and pipelines, their defaults, and their effect on search results."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import find_layout
from deepterms.schema.scripts import score_by_sketch
from deepterms.schema.sketches import (
    count_sketch_bytes,
    count_survivors,
    quantise_for_sketches,
    score_sketch,
    wants_sketch,
)
from deepterms.schema.vectors import VectorType, encode_vectors, quantise_and_restore
from deepterms.search.rerank import rescore


def scored(text: str, query: NDArray[np.float32], parameters: dict[str, Any]) -> int:
    """Imitate the pipeline's and the search's script for a stored vector, byte by byte."""
    stored = base64.b64decode(text)
    assert len(stored) == parameters["bytes"]
    sketch = bytearray((parameters["dimensions"] + 31) // 32 * 4)
    for i in range(parameters["dimensions"]):
        if stored[parameters["first"] + i * parameters["step"]] > 127:
            sketch[i >> 3] |= 1 << (i & 7)
    asked = score_by_sketch(query, {"match_all": {}})["script_score"]["script"]["params"]
    sent = base64.b64decode(json.loads(json.dumps(asked))["query"])
    assert len(sent) == 4 * len(sketch)
    assert len(sketch) == asked["bytes"] == count_sketch_bytes(parameters["dimensions"])
    scores = [0] * (32 * len(sketch))
    for i in range(8 * len(sketch)):
        level = (sent[i // 2] & 15 if i % 2 == 0 else sent[i // 2] >> 4 & 15) - 8
        first, half = i // 4 * 16, 1 << (i % 4)
        for j in range(first, first + half):
            score, positive = scores[j], max(level, 0)
            scores[j], scores[j + half] = score + positive, score + positive - level
    return 1 + sum(scores[32 * i + (own & 15)] + scores[32 * i + 16 + (own >> 4)] for i, own in enumerate(sketch))


@given(dimensions=st.integers(1, 70), seed=st.integers(0, 99), vectors=st.sampled_from(get_args(VectorType)))
def test_the_reference_scores_as_the_scripts_do(dimensions: int, seed: int, vectors: VectorType) -> None:
    rng = np.random.default_rng(seed)
    query, row = rng.integers(-2, 3, (2, 1, dimensions)).astype(np.float32)
    query[0, 0] = row[0, 0] = 1
    encoder = dt.DeepPermutation(dimensions, top_k=1)
    body = build_index_pipeline(IndexSpec(encoder, find_layout("words"), vectors, sketch=True))
    last = body["processors"][-1]["script"]
    assert last["tag"] == "sketch-vector"
    (text,) = encode_vectors(row, vectors)
    restored = quantise_and_restore(row, vectors)[0]
    assert score_sketch(quantise_for_sketches(query[0]), restored) == scored(text, query[0], last["params"])


def test_a_sketch_scores_the_magnitudes_of_components_that_agree() -> None:
    query = np.array([1, -2, 0.1, -0.0, 3], dtype=np.float32)
    levels = quantise_for_sketches(query)  # a root mean square of 1.67 is 7/4
    assert levels.tolist() == [1, -2, 0, 0, 3] + 27 * [0]
    assert quantise_for_sketches(1e30 * query).tolist() == levels.tolist()
    assert score_sketch(levels, query) == 7
    assert score_sketch(levels, np.array([1, 1, 1, 1, -1], dtype=np.float32)) == 2
    assert score_sketch(levels, -query) == 1
    assert score_sketch(levels, None) == 0


def test_rare_large_components_are_clipped() -> None:
    assert quantise_for_sketches(np.eye(1, 100, dtype=np.float32)[0])[0] == 7


def test_when_an_index_has_sketches() -> None:
    assert wants_sketch(None, stores_vectors=True, dimensions=1_024, rerank=500)
    assert not wants_sketch(None, stores_vectors=False, dimensions=1_024, rerank=500)
    assert not wants_sketch(None, stores_vectors=True, dimensions=1_023, rerank=500)
    assert not wants_sketch(None, stores_vectors=True, dimensions=1_024, rerank=499)
    assert wants_sketch(True, stores_vectors=True, dimensions=8, rerank=0)
    assert not wants_sketch(False, stores_vectors=True, dimensions=1_024, rerank=500)
    with pytest.raises(InvalidInput, match="the index stores none"):
        dt.MemoryIndex(dt.DeepPermutation(4, top_k=2), store_vectors=False, sketch=True)


def test_candidates_are_compared_in_two_steps() -> None:
    query = np.eye(1, 64, dtype=np.float32)[0]
    first, then = rescore(query, window=4_000, kept=count_survivors(10))
    assert (first["window_size"], then["window_size"]) == (4_000, 200)
    assert "doc['sketch']" in first["query"]["rescore_query"]["script_score"]["script"]["source"]
    assert "doc['vector']" in then["query"]["rescore_query"]["script_score"]["script"]["source"]
    assert count_survivors(100) == 400
    assert len(rescore(query, window=100, kept=count_survivors(10))) == 1  # too few to need sketches


def test_documents_of_a_wide_filter_are_compared_by_sketches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one document whose few large components make it the nearest is the last to survive."""
    monkeypatch.setattr("deepterms.search.widening.MAX_COMPARED_BY_VECTOR", 450)
    rng = np.random.default_rng(6)
    query = rng.standard_normal(64).astype(np.float32)
    rows = rng.standard_normal((900, 64)).astype(np.float32)
    rows[0] = np.where(np.abs(query) > np.sort(np.abs(query))[-5], 40 * query, -query)
    index = dt.MemoryIndex(dt.PivotPermutation(dt.Pivots(rows[:64]), top_k=4, query_top_k=8), sketch=True)
    index.add([str(row) for row in range(900)], rows, [{"row": row} for row in range(900)])
    for kept, first in ((450, True), (800, False)):
        options: dict[str, Any] = {"filter": {"range": {"metadata.row": {"lt": kept}}}, "rerank": 500}
        assert (index.search(query, k=1, **options).ids == ["0"]) is first


def test_the_nearest_of_many_candidates_are_kept() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((1_500, 1_024)).astype(np.float32)
    queries = rows[:20] + 2 * rng.standard_normal((20, 1_024)).astype(np.float32)
    encoder = dt.DeepPermutation(1_024, top_k=400)
    plain, sketched = (dt.MemoryIndex(encoder, sketch=sketch) for sketch in (False, True))
    for index in (plain, sketched):
        index.add([f"d{row}" for row in range(len(rows))], rows)
    for number, query in enumerate(queries):
        best = sketched.search(query, k=1, rerank=1_500)
        assert best.ids == plain.search(query, k=1, rerank=1_500).ids == [f"d{number}"]
