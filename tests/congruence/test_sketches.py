"""Engines select the same candidates by sketches as the reference, for documents of any producer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.migration import migrate
from deepterms.schema.vectors import VectorType, encode_vector, encode_vectors

DIMENSIONS = 100  # not a multiple of 8, so that sketches have padding
DOCUMENTS = 300
ROWS = np.random.default_rng(21).standard_normal((DOCUMENTS, DIMENSIONS)).astype(np.float32)
QUERY = np.random.default_rng(22).standard_normal(DIMENSIONS).astype(np.float32)
# By cosine nearer than all but NEAR, but only its few large components have the query's signs.
MISLEADING = np.where(np.abs(QUERY) > np.sort(np.abs(QUERY))[-6], 40 * QUERY, -QUERY).astype(np.float32)
NEAR = (QUERY + np.random.default_rng(23).standard_normal((5, DIMENSIONS)).astype(np.float32) / 3).astype(np.float32)
IDS = [*(f"d{row:03}" for row in range(DOCUMENTS)), *(f"near{row}" for row in range(5)), "misleading"]
FEATURES = np.concatenate([ROWS, NEAR, MISLEADING[np.newaxis]])
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=60)


@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_sketches_select_the_same_hits_as_the_reference(cluster: Any, unique_name: str, vectors: VectorType) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder=ENCODER, store_vectors=vectors, sketch=True, replicas=0
    )
    reference = dt.MemoryIndex(ENCODER, store_vectors=vectors, sketch=True)
    for target in (index, reference):
        metadata = [{"even": row % 2 == 0} for row in range(len(IDS))]
        assert target.add(IDS, FEATURES, metadata).failed == ()
        target.refresh()
    whole = reference.search(QUERY, k=100, rerank=len(IDS))
    assert "misleading" in whole.ids  # sketches keep 400 candidates
    for opened in (index, dt.SurrogateIndex.open(cluster, unique_name)):
        assert opened.sketch
        for options in (
            {"k": 6, "rerank": len(IDS)},
            {"k": 6, "rerank": len(IDS), "filter": {"term": {"metadata.even": True}}},
            {"k": 20, "rerank": 100},  # no more candidates than are compared exactly
            {"k": 100, "rerank": len(IDS)},
        ):
            found, expected = opened.search(QUERY, **options), reference.search(QUERY, **options)
            assert found.ids == expected.ids
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    found = index.search(QUERY, k=6, rerank=len(IDS))
    assert set(found.ids[:5]) == {f"near{row}" for row in range(5)}
    assert "misleading" not in found.ids  # although it is the next nearest
    assert [hits.ids for hits in index.search_many([QUERY, -QUERY], k=6, rerank=len(IDS))] == [
        hits.ids for hits in reference.search_many([QUERY, -QUERY], k=6, rerank=len(IDS))
    ]
    assert index.verify(sample=40).ok
    assert "sketch" not in index.cluster.request("GET", f"/{unique_name}/_doc/near0")["_source"]


def test_documents_of_other_producers_get_sketches(cluster: Any, unique_name: str) -> None:
    """A raw vector, base64 of the producer, the stored form, a supplied sketch, and no vector."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, sketch=True, replicas=0)
    terms = ENCODER.encode(QUERY[np.newaxis]).to_terms()[0]
    bodies: dict[str, dict[str, Any]] = {
        "raw": {"vector": [float(number) for number in NEAR[0]]},
        "base64": {"vector": encode_vector(NEAR[1])},
        "stored": {"terms": terms, "vector": encode_vectors(NEAR[2:3])[0]},
        "own": {"terms": terms, "sketch": "AAAA"},
        "none": {"terms": terms},
    }
    for id, body in bodies.items():
        index.cluster.request("PUT", f"/{unique_name}/_doc/{id}", body=body)
    index.add(IDS, FEATURES)
    index.refresh()
    found = index.search(QUERY, k=8, rerank=len(IDS) + len(bodies))
    assert set(found.ids) == {"near0", "near1", "near2", "near3", "near4", "raw", "base64", "stored"}
    counted = index.cluster.request("POST", f"/{unique_name}/_count", body={"query": {"exists": {"field": "sketch"}}})
    assert counted["count"] == len(IDS) + 3


def test_migration_adds_and_removes_sketches(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, store_vectors="int8", replicas=0)
    index.add(IDS, FEATURES)
    index.refresh()
    before = index.search(QUERY, k=6, rerank=len(IDS))
    assert "misleading" in before.ids
    for sketch in (True, False):
        migrate(cluster, unique_name, sketch=sketch, drop=True)
        index.refresh()
        found = index.search(QUERY, k=6, rerank=len(IDS))  # detects that the alias has moved
        assert ("misleading" in found.ids) is not sketch
        assert index.sketch is sketch
