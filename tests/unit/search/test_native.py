"""Tests of the body of native searches, without a cluster."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.engine import Engine
from deepterms.encoders.inputs import normalise_rows
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import InvalidInput
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.search.options import SearchOptions
from deepterms.search.request import Search
from deepterms.search.widening import Breadth, choose_breadth

ROWS = np.random.default_rng(4).standard_normal((64, 8)).astype(np.float32)
ENCODER = dt.PivotPermutation(Pivots(ROWS), top_k=2, query_top_k=4)
SPEC = IndexSpec.choose(Engine("elasticsearch", (9, 2, 0)), ENCODER)
FIELD = f"c_{SPEC.fingerprint}"
INDEX = IndexState("a", SPEC, {"a-1": "u"}, fingerprint=SPEC.fingerprint, field=FIELD)
QUERY = normalise_rows(ROWS[:1] + 0.1)[0]
TERMS = ENCODER.encode_queries(QUERY[np.newaxis])
ONLY = {"term": {"metadata.year": 2018}}


def build(**options: Any) -> Search:
    return Search.build(TERMS, QUERY, index=INDEX, options=SearchOptions(**options))


def test_the_engine_compares_the_documents_of_the_lists_behind_the_filter() -> None:
    search = build(k=5, filter=ONLY, fields=["year"])
    words = {"terms": {FIELD: list(TERMS.to_terms()[0])}}
    knn, without = search.body["query"]["bool"]["should"]
    assert knn["knn"].pop("query_vector") == np.rint(QUERY / np.abs(QUERY).max() * 127).astype(np.int8).tobytes().hex()
    assert knn == {"knn": {"field": "vector", "k": 50, "num_candidates": 50, "filter": [words, ONLY]}}
    assert without == {"bool": {"filter": [words, ONLY], "must_not": [{"exists": {"field": "vector"}}]}}
    assert (search.body["size"], search.body["_source"], search.rescored) == (5, ["metadata.year"], True)
    (step,) = search.body["rescore"]
    assert step["window_size"] == 50
    assert "cosineSimilarity" in json.dumps(step)


@pytest.mark.parametrize(("k", "found"), [(1, 50), (25, 50), (100, 200), (9_000, 10_000), (10_000, 10_000)])
def test_the_best_by_bytes_are_compared_again(k: int, found: int) -> None:
    body = build(k=k).body
    assert body["query"]["bool"]["should"][0]["knn"]["k"] == found == body["rescore"][0]["window_size"]


def test_more_hits_than_the_engine_finds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="k is 10001; expected at most 10,000"):
        build(k=10_001)


def test_without_reranking_codewords_are_scored() -> None:
    for search in (build(rerank=0), Search.build(TERMS, None, index=INDEX, options=SearchOptions())):
        assert "knn" not in json.dumps(search.body)
        assert "rescore" not in search.body


def test_candidates_for_the_client_are_the_nearest_by_bytes() -> None:
    search = build(rerank_from=object(), rerank=300)
    assert search.candidates
    assert not search.rescored
    assert "rescore" not in search.body
    assert (search.body["size"], search.body["query"]["bool"]["should"][0]["knn"]["k"]) == (300, 300)
    assert search.body["docvalue_fields"] == ["id"]


def test_a_narrow_filter_is_compared_whole_and_guarded() -> None:
    search = Search.exact(QUERY, index=INDEX, options=SearchOptions(filter=ONLY))
    assert search.body["query"]["bool"]["should"][0]["knn"]["filter"] == [{"exists": {"field": FIELD}}, ONLY]


def test_a_filter_leaves_as_many_documents_to_compare() -> None:
    encoder = dt.PivotPermutation(Pivots(np.tile(ROWS, (16, 1))), top_k=4, query_top_k=8)
    options: dict[str, Any] = {"documents": 500_000, "window": 1_000}
    assert choose_breadth(encoder, kept=20_000, native=True, **options) == Breadth(exact=True)
    assert not choose_breadth(encoder, kept=20_001, native=True, **options).exact
    assert choose_breadth(encoder, kept=50_000, native=True, **options).codewords == 80
    assert choose_breadth(encoder, kept=50_000, **options).codewords == 21  # enough for four times the candidates
