"""Search bodies and the parameters of the re-ranking script."""

from __future__ import annotations

import json

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.inputs import normalise_rows
from deepterms.schema.layouts import find_layout
from deepterms.schema.scripts import CHARACTER_BITS, QUERY_LEVELS
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


@pytest.mark.parametrize("dimensions", [1, 2, 256, 2048])
def test_the_query_text_decodes_to_the_query(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    query = normalise_rows(rng.standard_normal((1, dimensions)).astype(np.float32))[0]
    (body,) = rescore(query, window=50)
    assert body["window_size"] == 50
    params = body["query"]["rescore_query"]["script_score"]["script"]["params"]
    # As transmitted: JSON, read as Java chars, which are UTF-16.
    characters = np.frombuffer(json.loads(json.dumps(params["query"])).encode("utf-16-le"), dtype="<u2").astype(
        np.int64
    )
    assert len(characters) == 2 * dimensions
    assert characters.max() < 0xD800
    numbers = (characters[0::2] << CHARACTER_BITS) + characters[1::2] - (QUERY_LEVELS + 1)
    np.testing.assert_allclose(numbers * params["scale"], query, atol=2e-9)


@pytest.mark.parametrize("dimensions", [1, 2, 256, 4096])
def test_the_parts_of_a_native_query_add_up_to_it(dimensions: int) -> None:
    query = normalise_rows(np.random.default_rng(dimensions).standard_normal((1, dimensions)).astype(np.float32))[0]
    (body,) = rescore(query, window=50, vector_type="native")
    script = body["query"]["rescore_query"]["script_score"]["script"]
    params = json.loads(json.dumps(script["params"]))
    total = np.zeros(dimensions)
    for place in range(3):
        assert f"params.w{place} * cosineSimilarity(params.q{place}, 'vector')" in script["source"]
        part = np.frombuffer(bytes.fromhex(params[f"q{place}"]), dtype=np.int8).astype(np.float64)
        assert len(part) == dimensions
        if params[f"w{place}"] > 0:
            total += params[f"w{place}"] * part / np.linalg.norm(part)
    np.testing.assert_allclose(total, query, atol=1e-7)
