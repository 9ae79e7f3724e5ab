"""Elasticsearch's dense_vector gives the cosines of the script and the reference, for documents of any producer."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.schema.vectors import encode_vector
from tests.congruence.test_searches import ENCODER, IDS, METADATA, QUERIES, ROWS, assert_equal

OPTIONS: list[dict[str, Any]] = [
    {"k": 10},
    {"k": 120, "rerank": 120},
    {"k": 60, "rerank": 120, "min_score": 0.1, "effort": 0.6, "fields": ["year"]},
    {"k": 120, "rerank": 120, "filter": {"term": {"metadata.year": 2003}}},
    {"k": 10, "rerank": 0},
]


@pytest.mark.parametrize("shards", [1, 3])
def test_dense_vector_searches_equal_the_reference(elasticsearch: Any, unique_name: str, shards: int) -> None:
    dt.deploy(elasticsearch)
    plain, dense = (
        dt.SurrogateIndex.create(
            elasticsearch,
            f"{unique_name}-{'dense' if dense_vector else 'plain'}",
            encoder=ENCODER,
            dense_vector=dense_vector,
            shards=shards,
            replicas=0,
        )
        for dense_vector in (False, True)
    )
    reference = dt.MemoryIndex(ENCODER)
    for target in (plain, dense, reference):
        assert target.add(IDS, ROWS, METADATA).failed == ()
        target.refresh()
    for options in OPTIONS:
        for query in (QUERIES[0], ROWS[12], -ROWS[12]):
            expected = reference.search(query, **options)
            assert_equal(plain.search(query, **options), expected)
            assert_equal(dense.search(query, **options), expected)
        for found, expected in zip(
            dense.search_many(QUERIES, **options), reference.search_many(QUERIES, **options), strict=True
        ):
            assert_equal(found, expected)
    assert_equal(dense.search_by_id("d007", k=20), reference.search_by_id("d007", k=20))
    checked = dense.verify(sample=60)
    assert checked.ok
    assert checked.cosines > 1_000
    for target in (dense, reference):
        assert target.update_metadata(["d001"], [{"year": 1}]).succeeded == 1
        assert target.delete(IDS[::4]).failed == ()
        assert target.add(IDS[1::8], ROWS[2::8], METADATA[1::8]).failed == ()
        target.refresh()
    for query in QUERIES:
        assert_equal(dense.search(query, k=120, rerank=120), reference.search(query, k=120, rerank=120))


def test_unusual_vectors_score_the_same_without_the_field(elasticsearch: Any, unique_name: str) -> None:
    """Vectors that are not normalised, too long for a cosine, too large to square in float32, all zeros, or missing."""
    dt.deploy(elasticsearch)
    terms = ENCODER.encode(ROWS[:1]).to_terms()[0]
    unit = ROWS[0] / np.linalg.norm(ROWS[0])
    vectors = {
        "half": encode_vector(unit / 2),
        "double": encode_vector(unit * 2),
        "huge": encode_vector(unit * 1e30),
        "zero": encode_vector(unit * 0),
        "minus": encode_vector(-unit),
    }
    found = []
    for dense_vector in (False, True):
        index = dt.SurrogateIndex.create(
            elasticsearch,
            f"{unique_name}-{dense_vector}".lower(),
            encoder=ENCODER,
            dense_vector=dense_vector,
            replicas=0,
        )
        put = index.cluster.request
        for id, text in vectors.items():
            put("PUT", f"/{index.name}/_doc/{id}", body={"terms": terms, "vector": text})
        put("PUT", f"/{index.name}/_doc/none", body={"terms": terms})
        put("PUT", f"/{index.name}/_doc/raw", body={"vector": [7 * number for number in ROWS[0].tolist()]})
        put("PUT", f"/{index.name}/_doc/base64", body={"vector": encode_vector(ROWS[0] * 3)})
        index.refresh()
        found.append({hit.id: hit.score for hit in index.search(ROWS[0], k=20)})
    script, field = found
    expected = {"half": 0.5, "double": -1, "huge": -1, "zero": 0, "minus": -1, "none": -1, "raw": 1, "base64": 1}
    assert script == pytest.approx(expected, abs=1e-6)
    assert field == pytest.approx(expected, abs=1e-6)


def test_an_encoder_without_an_engine_implementation(elasticsearch: Any, unique_name: str) -> None:
    """The index pipeline fills only the field; vectors of the wrong length pass through it and get the cosine −1."""
    dt.deploy(elasticsearch)
    encoder = dt.PairCodewords(64, rank_sum=16, query_rank_sum=14)
    index = dt.SurrogateIndex.create(
        elasticsearch, unique_name, encoder=encoder, layout="codewords", dense_vector=True, replicas=0
    )
    reference = dt.MemoryIndex(encoder)
    for target in (index, reference):
        assert target.add(IDS, ROWS).failed == ()
        target.refresh()
    for query in QUERIES:
        assert_equal(index.search(query, k=100), reference.search(query, k=100))
    assert index.verify(sample=40).ok
    short = {"terms": encoder.encode(ROWS[:1]).to_terms()[0], "vector": base64.b64encode(bytes(32)).decode()}
    index.cluster.request("PUT", f"/{unique_name}/_doc/short", body=short)
    index.refresh()
    (hit,) = (hit for hit in index.search(ROWS[0], k=121, rerank=121) if hit.id == "short")
    assert hit.score == -1
