"""Search bodies and the parameters of the re-ranking script."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.inputs import normalise_rows
from deepterms.schema.layouts import find_layout
from deepterms.schema.vectors import round_query
from deepterms.search.body import search_body
from deepterms.search.rerank import rescore


@pytest.mark.parametrize("layout", ["frequencies", "words", "codewords"])
def test_one_boosted_clause_per_codeword(layout: str) -> None:
    terms = dt.DeepPermutation(4, top_k=2).encode([0.0, 3.0, -4.0, 0.0])
    body = search_body(terms, layout=find_layout(layout), k=5, filter={"term": {"metadata.year": 2018}})
    assert body == {
        "size": 5,
        "query": {
            "bool": {
                "should": [
                    {"term": {"codewords": {"value": "t1", "boost": 1}}},
                    {"term": {"codewords": {"value": "t6", "boost": 2}}},
                ],
                "minimum_should_match": 1,
                "filter": [{"term": {"metadata.year": 2018}}],
            }
        },
        "_source": ["metadata"],
        "track_total_hits": False,
    }


def test_rank_features_use_a_clause_both_engines_support() -> None:
    terms = dt.DeepPermutation(4, top_k=2).encode([0.0, 3.0, -4.0, 0.0])
    body = search_body(terms, layout=find_layout("rank_features"), k=5)
    assert body["query"]["bool"]["should"] == [
        {"rank_feature": {"field": "codewords.t1", "linear": {}, "boost": 1}},
        {"rank_feature": {"field": "codewords.t6", "linear": {}, "boost": 2}},
    ]


def _draw_query(dimensions: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(dimensions).standard_normal((1, dimensions)).astype(np.float32)
    query: NDArray[np.float32] = normalise_rows(drawn)[0]
    return query


def _decode_12_bits(sent: bytes, dimensions: int) -> list[int]:
    """Decode as the script does."""
    levels = []
    for i in range(dimensions):
        k = i // 2 * 3
        even = sent[k] << 4 | (sent[k + 1] & 240) >> 4
        levels.append((even if i % 2 == 0 else (sent[k + 1] & 15) << 8 | sent[k + 2]) - 2048)
    return levels


@pytest.mark.parametrize("dimensions", [1, 2, 255, 2048])
def test_the_query_sent_for_float32_vectors_is_the_query(dimensions: int) -> None:
    query = _draw_query(dimensions)
    (body,) = rescore(query, window=50)
    assert body["window_size"] == 50
    params = body["query"]["rescore_query"]["script_score"]["script"]["params"]
    assert (params["dimensions"], params["bytes"]) == (dimensions, 4 * dimensions)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(params["query"]), dtype="<f4"), query)


@pytest.mark.parametrize("dimensions", [1, 2, 255, 2048])
def test_the_query_sent_for_int8_vectors_has_12_bits(dimensions: int) -> None:
    query = _draw_query(dimensions)
    (body,) = rescore(query, window=50, vector_type="int8")
    params = body["query"]["rescore_query"]["script_score"]["script"]["params"]
    sent = base64.b64decode(params["query"])
    assert len(sent) == -(-dimensions // 2) * 3
    levels = np.array(_decode_12_bits(sent, dimensions))
    assert np.abs(levels).max() == 2047
    np.testing.assert_array_equal((levels * params["scale"]).astype(np.float32), round_query(query, "int8"))
    np.testing.assert_allclose(round_query(query, "int8"), query, atol=np.abs(query).max() / 2000)
    assert np.linalg.norm(levels * params["scale"]) == pytest.approx(1, abs=1e-12)


def test_a_search_of_1280_dimensions_is_sent_in_about_7_kilobytes() -> None:
    encoder = dt.PivotPermutation(dt.Pivots(np.eye(64, 1280)), top_k=4, query_top_k=32)
    query = _draw_query(1280)
    body = search_body(
        encoder.encode_queries(query),
        layout=find_layout("codewords"),
        field="c_0123abcd",
        k=10,
        rescore=rescore(query, window=1_000, vector_type="int8", kept=100),
    )
    assert len(json.dumps(body, separators=(",", ":"))) < 7_200


@pytest.mark.parametrize("dimensions", [1, 2, 256, 4096])
def test_the_parts_of_a_native_query_add_up_to_it(dimensions: int) -> None:
    query = normalise_rows(np.random.default_rng(dimensions).standard_normal((1, dimensions)).astype(np.float32))[0]
    (body,) = rescore(query, window=50, vector_type="native")
    script = body["query"]["rescore_query"]["script_score"]["script"]
    params = json.loads(json.dumps(script["params"]))
    total = np.zeros(dimensions)
    for place in range(3):
        assert f"params.w{place}*cosineSimilarity(params.q{place},'vector')" in script["source"]
        part = np.frombuffer(bytes.fromhex(params[f"q{place}"]), dtype=np.int8).astype(np.float64)
        assert len(part) == dimensions
        if params[f"w{place}"] > 0:
            total += params[f"w{place}"] * part / np.linalg.norm(part)
    np.testing.assert_allclose(total, query, atol=1e-7)
