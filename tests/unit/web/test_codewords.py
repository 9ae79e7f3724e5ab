"""A search encodes its query once, and its response shows the codewords that were sent to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.web import create_app
from tests.unit.web.conftest import HERE, name_of

COUNT, DIMENSIONS = 4_500, 8
# Three in five documents: more than a filtered search compares exactly.
MOST = {"part": [0, 1, 2]}
# One in 4,500.
ONE = {"row": [7]}


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(COUNT, DIMENSIONS)).astype(np.float32)


@pytest.fixture(scope="module")
def pivots(vectors: NDArray[np.float32]) -> TestClient:
    """A client of an index whose encoder widens queries behind a filter."""
    index = dt.MemoryIndex(dt.PivotPermutation(dt.Pivots(vectors[:64]), top_k=4, query_top_k=6))
    metadata = [{"part": row % 5, "row": row} for row in range(COUNT)]
    assert index.add([str(row) for row in range(COUNT)], vectors, metadata).failed == ()
    return TestClient(create_app(index), base_url=HERE)


def count_encodings(monkeypatch: pytest.MonkeyPatch, encoder_class: type[Any]) -> list[str]:
    """Record each call that encodes queries, without the calls that such a call makes itself."""
    calls: list[str] = []
    depth = 0

    def counted(name: str, encode: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            if not depth:
                calls.append(name)
            depth += 1
            try:
                return encode(*arguments, **options)
            finally:
                depth -= 1

        return wrapper

    for name in ("encode_queries", "encode_wider_queries"):
        if hasattr(encoder_class, name):
            monkeypatch.setattr(encoder_class, name, counted(name, getattr(encoder_class, name)))
    return calls


@pytest.mark.parametrize("filters", [None, {"year": [2016]}], ids=["all", "filtered"])
@pytest.mark.parametrize("effort", [1.0, 0.5])
@pytest.mark.parametrize("by", ["vector", "id", "image"])
def test_each_search_encodes_once(
    client: TestClient,
    index: dt.MemoryIndex,
    features: NDArray[np.float32],
    photos: Any,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    effort: float,
    filters: Any,
) -> None:
    calls = count_encodings(monkeypatch, type(index.encoder))
    if by == "image":
        options: dict[str, Any] = {"effort": effort, **({"filter": '{"year": [2016]}'} if filters else {})}
        content = (photos / name_of(3)).read_bytes()
        headers = {"Content-Type": "image/jpeg"}
        response = client.post("/v1/search/image", params=options, content=content, headers=headers)
    else:
        query: dict[str, Any] = {"query": features[3].tolist()} if by == "vector" else {"id": name_of(3)}
        response = client.post(f"/v1/search/{by}", json={**query, "effort": effort, "filter": filters})
    assert response.status_code == 200, response.text
    assert calls == ["encode_queries"]
    (expected,) = index.encoder.encode_queries(features[3]).to_terms()
    shown = response.json()["query"]
    assert len(shown) == round(effort * len(expected))
    assert shown.items() <= expected.items()
    assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_widened_codewords_are_shown(
    pivots: TestClient, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_encodings(monkeypatch, dt.PivotPermutation)
    query = {"query": vectors[3].tolist(), "k": 5, "rerank": 500}
    usual = pivots.post("/v1/search/vector", json=query).json()["query"]
    wider = pivots.post("/v1/search/vector", json={**query, "filter": MOST}).json()["query"]
    assert calls == ["encode_queries", "encode_wider_queries"]
    assert len(usual) == 6 < len(wider)


def test_exact_comparison_uses_no_codewords(
    pivots: TestClient, vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_encodings(monkeypatch, dt.PivotPermutation)
    found = pivots.post("/v1/search/vector", json={"query": vectors[3].tolist(), "filter": ONE}).json()
    assert [hit["id"] for hit in found["hits"]] == ["7"]
    assert found["query"] is None
    assert calls == []


@pytest.mark.parametrize("store_vectors", [True, False])
def test_document_without_vector_is_searched_by_terms(store_vectors: bool, vectors: NDArray[np.float32]) -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(DIMENSIONS, top_k=3), store_vectors=store_vectors)
    index.add(["a", "b"], vectors[:2])
    response = TestClient(create_app(index), base_url=HERE).post("/v1/search/id", json={"id": "a"}).json()
    document = index.get("a")
    assert document is not None
    assert response["query"] == dict(document.terms)
