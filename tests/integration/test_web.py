"""The application on real clusters returns what the engine holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.web import create_app

COUNT, DIMENSIONS = 60, 24


@pytest.fixture
def served(cluster: Any, unique_name: str) -> Iterator[tuple[TestClient, dt.SurrogateIndex]]:
    """A client of the application and its index."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(DIMENSIONS, top_k=10), replicas=0)
    with TestClient(create_app(index), base_url="http://127.0.0.1") as client:
        yield client, index


def features() -> Any:
    return np.random.default_rng(8).normal(size=(COUNT, DIMENSIONS)).astype(np.float32)


def test_streamed_documents_are_found_by_every_search(served: tuple[TestClient, dt.SurrogateIndex]) -> None:
    client, index = served
    vectors = features()
    lines = [
        json.dumps(
            {
                "id": f"d/{row}",
                "vector": vector.tolist(),
                "metadata": {"year": 2015 + row % 3, "place": {"city": f"c{row % 5}"}, "price": row, "new": row > 50},
            }
        )
        for row, vector in enumerate(vectors)
    ]
    sent = client.post(
        "/v1/documents/stream", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    )
    assert json.loads(sent.text.splitlines()[-1]) == {"succeeded": COUNT, "failed": [], "done": True}
    index.refresh()

    memory = dt.MemoryIndex(index.encoder)
    memory.add([f"d/{row}" for row in range(COUNT)], vectors)
    by_vector = client.post("/v1/search/vector", json={"query": vectors[7].tolist(), "k": 5, "split": True}).json()
    expected = memory.search(vectors[7], k=5)
    assert [hit["id"] for hit in by_vector["hits"]] == expected.ids
    np.testing.assert_allclose([hit["score"] for hit in by_vector["hits"]], [h.score for h in expected], atol=1e-5)
    assert by_vector["times"]["rerank"] >= 0
    (codewords,) = index.encoder.encode_queries(vectors[7]).to_terms()
    assert by_vector["query"] == codewords
    by_id = client.post("/v1/search/id", json={"id": "d/7", "k": 5}).json()
    assert [hit["id"] for hit in by_id["hits"]] == memory.search_by_id("d/7", k=5).ids

    filters = {"year": [2016], "place.city": ["c1", "c4"], "price": {"lt": 50}}
    matching = [row for row in range(50) if row % 3 == 1 and row % 5 in (1, 4)]
    filtered = client.post("/v1/search/vector", json={"query": vectors[7].tolist(), "k": 99, "filter": filters}).json()
    assert {hit["id"] for hit in filtered["hits"]} <= {f"d/{row}" for row in matching}
    assert filtered["hits"]
    assert filtered["query"] == codewords
    counted = client.get("/v1/facets", params={"filter": json.dumps(filters)}).json()["facets"]
    facets = {facet["field"]: facet for facet in counted}
    assert dict(facets["year"]["values"]) == {
        2015 + rest: len([row for row in range(50) if row % 3 == rest and row % 5 in (1, 4)]) for rest in range(3)
    }
    of_2016 = [row for row in range(50) if row % 3 == 1]
    assert dict(facets["place.city"]["values"]) == {
        f"c{rest}": len([row for row in of_2016 if row % 5 == rest]) for rest in range(5)
    }
    assert (facets["price"]["least"], facets["price"]["most"]) == (
        min(row for row in range(COUNT) if row % 3 == 1 and row % 5 in (1, 4)),
        max(row for row in range(COUNT) if row % 3 == 1 and row % 5 in (1, 4)),
    )

    why = client.post("/v1/explain", json={"id": "d/8", "query_id": "d/7"}).json()
    assert why["agrees"]
    assert why["score"] == index.explain("d/8", vectors[7]).score
    status = client.get("/v1/status").json()
    assert (status["documents"], status["name"]) == (COUNT, index.name)
    assert status["bytes"] > 0
    assert client.get("/readyz").status_code == 200

    gone = client.post("/v1/documents/delete", json={"ids": ["d/7"], "refresh": True})
    assert gone.json() == {"succeeded": 1, "failed": []}
    assert client.post("/v1/search/id", json={"id": "d/7"}).status_code == 404
    assert "d/7" not in index.search(vectors[7], k=5).ids


def test_reasons_of_the_engine_are_reported(served: tuple[TestClient, dt.SurrogateIndex]) -> None:
    client, _ = served
    added = {"documents": [{"id": "a", "vector": features()[0].tolist(), "metadata": {"year": 1}}], "refresh": True}
    assert client.post("/v1/documents", json=added).json()["succeeded"] == 1
    query = {"query": features()[0].tolist(), "filter": {"year": ["not a number"]}}
    rejected = client.post("/v1/search/vector", json=query)
    assert rejected.status_code == 422
    assert "not a number" in rejected.json()["detail"]
    conflicting = {"documents": [{"id": "b", "vector": features()[1].tolist(), "metadata": {"year": "x"}}]}
    failed = client.post("/v1/documents", json=conflicting).json()
    assert failed["succeeded"] == 0
    assert failed["failed"][0]["id"] == "b"


def test_deleted_index_is_unavailable(served: tuple[TestClient, dt.SurrogateIndex]) -> None:
    client, index = served
    index.drop()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    gone = client.post("/v1/search/vector", json={"query": features()[0].tolist()})
    assert gone.status_code == 503
    assert index.name not in gone.text


def test_an_index_created_again_is_served_as_it_is_now(
    cluster: Any, served: tuple[TestClient, dt.SurrogateIndex]
) -> None:
    """The application holds the handle of an index that somebody drops and creates again with another encoder."""
    client, old = served
    vectors, ids = features(), [f"d{row}" for row in range(COUNT)]
    assert old.add(ids, vectors).failed == ()
    old.refresh()
    before = client.post("/v1/search/vector", json={"query": vectors[7].tolist(), "k": 3}).json()
    assert before["hits"][0]["id"] == "d7"
    layout = old.layout.name
    dt.SurrogateIndex.open(cluster, old.name).drop()
    gone = client.post("/v1/search/vector", json={"query": vectors[7].tolist(), "k": 3})
    assert (gone.status_code, gone.json()["detail"]) == (503, "the index no longer exists")
    encoder = dt.DeepPermutation(DIMENSIONS, top_k=4, crelu=False)
    new = dt.SurrogateIndex.create(cluster, old.name, encoder=encoder, layout=layout, store_vectors="int8", replicas=0)
    lines = [{"id": name, "vector": row.tolist()} for name, row in zip(ids, vectors, strict=True)]
    sent = client.post(
        "/v1/documents/stream",
        content="\n".join(map(json.dumps, lines)),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert json.loads(sent.text.splitlines()[-1]) == {"succeeded": COUNT, "failed": [], "done": True}
    new.refresh()
    after = client.post("/v1/search/vector", json={"query": vectors[7].tolist(), "k": 5}).json()
    expected = new.search(vectors[7], k=5)
    assert [hit["id"] for hit in after["hits"]] == expected.ids
    assert [hit["score"] for hit in after["hits"]] == pytest.approx([hit.score for hit in expected])
    assert after["query"] == encoder.encode_queries(vectors[7]).to_terms()[0]
