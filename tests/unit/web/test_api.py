"""The API over HTTP on a MemoryIndex: same results as the index itself, and every limit with its status."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.errors import ClusterError, ClusterUnreachable, DeepTermsError, IndexNotFound, RequestRejected
from deepterms.results import Hits
from deepterms.web import Limits, create_app
from tests.unit.web.conftest import COUNT, HERE, GridExtractor, jpeg, name_of

IMAGE = {"Content-Type": "image/jpeg"}
LINES = {"Content-Type": "application/x-ndjson"}


def ids_of(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


@pytest.mark.parametrize("form", [False, True], ids=["bare", "form"])
def test_indexed_photo_finds_itself(client: TestClient, photos: Path, form: bool) -> None:
    content = (photos / name_of(4)).read_bytes()
    sent: dict[str, Any] = (
        {"files": {"image": ("a.jpg", content, "image/jpeg")}} if form else {"content": content, "headers": IMAGE}
    )
    answer = client.post("/v1/search/image?k=3&split=true&vector=true", **sent)
    first = answer.json()["hits"][0]
    assert ids_of(answer)[0] == name_of(4)
    assert first["rank"] == 1
    assert first["score"] == pytest.approx(1, abs=1e-6)  # decoded in another process, with the same pixels
    assert first["metadata"]["year"] == 2015
    times = answer.json()["times"]
    assert all(times[step] >= 0 for step in ("decoding", "descriptor", "search", "rerank"))
    again = client.post("/v1/search/vector", json={"query": answer.json()["vector"], "k": 3})
    assert ids_of(again) == ids_of(answer)


@pytest.mark.parametrize("rerank", [None, 0, 10])
@pytest.mark.parametrize("effort", [1.0, 0.3])
def test_hits_equal_those_of_the_index(
    client: TestClient, index: dt.MemoryIndex, features: NDArray[np.float32], rerank: int | None, effort: float
) -> None:
    options: dict[str, Any] = {"k": 7, "rerank": rerank, "effort": effort}
    by_vector = client.post("/v1/search/vector", json={"query": features[3].tolist(), **options}).json()
    expected = index.search(features[3], **options)
    assert [(hit["id"], hit["score"]) for hit in by_vector["hits"]] == [(hit.id, hit.score) for hit in expected]
    assert by_vector["score"] == ("dot product" if rerank == 0 else "cosine")
    by_id = client.post("/v1/search/id", json={"id": name_of(3), **options})
    assert ids_of(by_id) == index.search_by_id(name_of(3), **options).ids


def test_vectors_can_be_base64(client: TestClient, features: NDArray[np.float32]) -> None:
    encoded = base64.b64encode(features[5].astype("<f4").tobytes()).decode()
    assert ids_of(client.post("/v1/search/vector", json={"query": encoded}))[0] == name_of(5)


def test_filters_apply_and_facets_count(client: TestClient, features: NDArray[np.float32]) -> None:
    filters = {"year": [2016, 2017], "price": {"gte": 10}}
    body = {"query": features[0].tolist(), "k": 100, "filter": filters}
    found = client.post("/v1/search/vector", json=body).json()["hits"]
    assert found
    assert all(hit["metadata"]["year"] in (2016, 2017) and hit["metadata"]["price"] >= 10 for hit in found)
    answer = client.get("/v1/facets", params={"filter": json.dumps(filters)}).json()["facets"]
    facets = {facet["field"]: facet for facet in answer}
    fitting = [seed for seed in range(10, COUNT) if seed % 4 in (1, 2)]
    reds = len([seed for seed in fitting if seed % 5 == 0])
    assert dict(facets["colour"]["values"]) == {"red": reds, "blue": len(fitting) - reds}
    # A filter on a field does not affect its own counts.
    assert {year for year, _ in facets["year"]["values"]} == {2015, 2016, 2017, 2018}
    assert (facets["price"]["least"], facets["price"]["most"]) == (1, 29)
    assert "path" not in facets


def test_filters_by_date(features: NDArray[np.float32]) -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(features.shape[1], top_k=20))
    metadata = [{"taken": f"2024-01-{day:02}T12:00:00+02:00", "name": f"n{day}"} for day in range(1, 31)]
    assert index.add([f"d{day}" for day in range(1, 31)], features, metadata).failed == ()
    with TestClient(create_app(index, describer=GridExtractor()), base_url="http://127.0.0.1") as client:

        def find(field: str, **bounds: str) -> Any:
            body = {"query": features[0].tolist(), "k": 100, "rerank": 1000, "filter": {field: bounds}}
            return client.post("/v1/search/vector", json=body)

        assert len(find("taken", gte="2024-01-10", lte="2024-01-12").json()["hits"]) == 3
        assert len(find("taken", gt="2024-01-10T10:00:00Z", lt="now-1d/d").json()["hits"]) == 20
        for bound in ("2024", "yesterday", "now-1d||x", "2024-01-10||/M", "now/x"):
            assert find("taken", gte=bound).status_code == 422
        refused = find("name", gte="2024-01-10")
        assert (refused.status_code, "type keyword" in refused.json()["detail"]) == (422, True)
        (facet,) = client.get("/v1/facets").json()["facets"]
        assert (facet["field"], facet["least"], facet["most"]) == ("taken", "2024-01-01", "2024-01-30")


def test_explain_matches_the_index(client: TestClient, index: dt.MemoryIndex, features: NDArray[np.float32]) -> None:
    expected = index.explain(name_of(8), features[7])
    for query in ({"query": features[7].tolist()}, {"query_id": name_of(7)}):
        answer = client.post("/v1/explain", json={"id": name_of(8), **query}).json()
        assert answer["score"] == expected.score > 0
        assert answer["agrees"]
        assert sum(match["product"] for match in answer["matches"]) == expected.score
    both = {"id": name_of(8), "query_id": name_of(7), "query": features[7].tolist()}
    assert client.post("/v1/explain", json=both).status_code == 422
    assert client.post("/v1/explain", json={"id": "nobody", "query_id": name_of(7)}).status_code == 404


def test_documents_are_added_and_deleted(
    client: TestClient, index: dt.MemoryIndex, features: NDArray[np.float32]
) -> None:
    documents = [
        {"id": "new/one", "vector": features[0].tolist(), "metadata": {"year": 1999}},
        {"id": "short", "vector": [1.0]},
        {"id": "zero", "vector": [0.0] * 48},
    ]
    answer = client.post("/v1/documents", json={"documents": documents, "refresh": True}).json()
    assert answer["succeeded"] == 1
    assert {failure["id"] for failure in answer["failed"]} == {"short", "zero"}
    held = client.get("/v1/document", params={"id": "new/one"}).json()
    assert held["metadata"] == {"year": 1999}
    assert held["terms"]
    assert client.post("/v1/documents/delete", json={"ids": ["new/one"]}).json() == {"succeeded": 1, "failed": []}
    assert client.get("/v1/document", params={"id": "new/one"}).status_code == 404
    assert client.delete("/v1/document", params={"id": name_of(0)}).status_code == 200
    assert index.count() == COUNT - 1


def test_stream_of_documents_is_indexed(
    client: TestClient, index: dt.MemoryIndex, features: NDArray[np.float32]
) -> None:
    def chunks() -> Iterator[bytes]:
        lines = [json.dumps({"id": f"n{n}", "vector": features[n % COUNT].tolist()}) for n in range(1_100)]
        lines[3], lines[700] = "{", '{"id": "x"}'
        text = "\n".join(lines).encode()  # the last line has no line end
        for start in range(0, len(text), 10_007):
            yield text[start : start + 10_007]

    answer = client.post("/v1/documents/stream", content=chunks(), headers=LINES)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["succeeded"] for line in lines] == sorted(line["succeeded"] for line in lines)
    assert len(lines) > 2
    assert lines[-1]["done"]
    assert lines[-1]["succeeded"] == 1_098
    failed = [failure["id"] for line in lines for failure in line["failed"]]
    assert failed == ["line 4", "line 701"]
    assert index.count() == COUNT + 1_098


def test_aborted_stream_reports_the_error(client: TestClient) -> None:
    answer = client.post("/v1/documents/stream", content=b"x" * (2 << 20), headers=LINES)
    (line,) = [json.loads(line) for line in answer.text.splitlines()]
    assert "too long" in line["error"]
    assert not line["done"]


def test_status_health_and_metrics(client: TestClient) -> None:
    status = client.get("/v1/status").json()
    assert (status["documents"], status["engine"], status["dimensions"]) == (COUNT, "memory", 48)
    assert status["images"]
    assert status["photographs"]
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/search/id", json={"id": name_of(1)})
    metrics = client.get("/metrics").text
    assert 'deepterms_http_requests_total{method="POST",route="/v1/search/id",status="200"} 1.0' in metrics
    assert 'deepterms_search_step_seconds_count{step="search"} 1.0' in metrics
    assert 'route="none"' not in metrics
    client.get("/nowhere/at/all")
    assert 'route="none",status="404"' in client.get("/metrics").text


def test_request_id_is_echoed_or_made(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-7"}).headers["X-Request-ID"] == "mine-7"
    rejected = client.get("/v1/document", params={"id": "nobody"}, headers={"X-Request-ID": "mine-8"})
    assert rejected.json()["request_id"] == "mine-8"
    assert rejected.headers["Content-Type"] == "application/problem+json"
    made = client.get("/healthz", headers={"X-Request-ID": "two words"}).headers["X-Request-ID"]
    assert made != client.get("/healthz").headers["X-Request-ID"]
    assert " " not in made


@pytest.mark.parametrize(
    ("path", "sent", "status", "says"),
    [
        ("/v1/search/image", {"content": b"GIF89a", "headers": IMAGE}, 422, "damaged"),
        ("/v1/search/image", {"content": b"hello", "headers": IMAGE}, 415, "not a"),
        ("/v1/search/image", {"content": b"", "headers": IMAGE}, 422, "no image"),
        ("/v1/search/image", {"json": {"image": 1}}, 415, "image/"),
        ("/v1/search/image", {"files": {"other": ("a", b"x")}}, 422, "no file named"),
        ("/v1/search/image", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "boundary"),
        ("/v1/search/image?k=0", {"content": b"x", "headers": IMAGE}, 422, "k"),
        ("/v1/search/image?filter={", {"content": b"x", "headers": IMAGE}, 422, "filter"),
        ("/v1/search/image?filter={%22a%22:{%22script%22:1}}", {"content": b"x", "headers": IMAGE}, 422, "filter"),
        ("/v1/search/vector", {"json": {"query": [1, 2]}}, 422, "2 numbers"),
        ("/v1/search/vector", {"json": {"query": "AAAA"}}, 422, "3 bytes"),
        ("/v1/search/vector", {"json": {"query": "§"}}, 422, "base64"),
        ("/v1/search/vector", {"json": {"query": [0.0] * 48}}, 422, "zero"),
        ("/v1/search/vector", {"json": {"query": [1.0] * 48, "k": 2_000}}, 422, "at most 1,000"),
        ("/v1/search/vector", {"json": {"query": [1.0] * 48, "rerank": 10**6}}, 422, "at most 10,000"),
        ("/v1/search/vector", {"json": {"query": [1.0] * 48, "nonsense": 1}}, 422, "nonsense"),
        ("/v1/search/vector", {"json": {"query": [1.0] * 48, "filter": {"a": {"script": "x"}}}}, 422, "filter"),
        ("/v1/search/vector", {"json": {"query": [1.0] * 48, "filter": {"a*": ["x"]}}}, 422, "filter"),
        ("/v1/search/vector", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "JSON"),
        ("/v1/search/vector", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "JSON"),
        ("/v1/search/id", {"json": {"id": "nobody"}}, 404, "nobody"),
        ("/v1/documents/stream", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "ndjson"),
    ],
)
def test_invalid_requests_are_rejected(
    client: TestClient, path: str, sent: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post(path, **sent)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert set(answer.json()) == {"title", "status", "detail", "request_id"}


class Troubled:
    """An index whose searches fail or block."""

    def __init__(self, index: dt.MemoryIndex, *, error: DeepTermsError | None = None) -> None:
        self._index, self._error = index, error
        self.asked, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def search(self, *arguments: Any, **options: Any) -> Hits:
        if self._error is not None:
            raise self._error
        self.asked.set()
        self.go.wait(10)
        return self._index.search(*arguments, **options)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClusterUnreachable("10.0.0.7 did not answer"), 503),
        (RequestRejected("password of elastic", status=401), 502),
        (RequestRejected("busy at 10.0.0.7", status=429), 503),
        (RequestRejected("gone", status=404), 503),
        (RequestRejected("failed to parse [year]", status=400), 422),
        (IndexNotFound("gone"), 503),
        (ClusterError("10.0.0.7 is no engine"), 502),
        (DeepTermsError("10.0.0.7"), 500),
    ],
    ids=lambda value: str(value),
)
def test_cluster_messages_are_not_passed_on(
    index: dt.MemoryIndex, features: NDArray[np.float32], error: DeepTermsError, status: int
) -> None:
    with TestClient(create_app(Troubled(index, error=error)), base_url=HERE) as client:
        answer = client.post("/v1/search/vector", json={"query": features[0].tolist()})
    assert answer.status_code == status
    assert "10.0.0.7" not in answer.text
    assert "password" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_bugs_are_reported_without_a_traceback(index: dt.MemoryIndex, features: NDArray[np.float32]) -> None:
    broken = Troubled(index, error=KeyError("secret"))  # type: ignore[arg-type]
    with TestClient(create_app(broken), base_url=HERE, raise_server_exceptions=False) as client:
        answer = client.post("/v1/search/vector", json={"query": features[0].tolist()})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_slow_search_times_out_without_blocking_others(index: dt.MemoryIndex, features: NDArray[np.float32]) -> None:
    slow = Troubled(index)
    limits = Limits(threads=1, waiting=1, seconds=3)
    query = {"query": features[0].tolist()}
    with TestClient(create_app(slow, limits=limits), base_url=HERE) as client, ThreadPoolExecutor(3) as threads:
        searches = [threads.submit(client.post, "/v1/search/vector", json=query) for _ in range(3)]
        rejected = next(as_completed(searches)).result()
        assert rejected.status_code == 503  # one is running, one is queued
        assert client.get("/").status_code == 200
        assert client.get("/v1/status").status_code == 200
        assert sum(search.done() for search in searches) == 1  # the page did not wait for the others
        assert sorted(search.result().status_code for search in searches) == [503, 504, 504]
        slow.go.set()
        wait_until(lambda: "deepterms_searches_taken 0.0" in client.get("/metrics").text)
        assert client.post("/v1/search/vector", json=query).status_code == 200


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_concurrent_requests_per_address_are_limited(index: dt.MemoryIndex, features: NDArray[np.float32]) -> None:
    slow = Troubled(index)
    app = create_app(slow, limits=Limits(per_client=1))
    with TestClient(app, base_url=HERE) as client, ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.post, "/v1/search/vector", json={"query": features[0].tolist()})
        wait_until(lambda: slow.asked.is_set())
        rejected = client.get("/v1/status")
        assert client.get("/healthz").status_code == 200
        slow.go.set()
        assert first.result().status_code == 200
        assert rejected.status_code == 429
        assert rejected.headers["Retry-After"]
        assert client.get("/healthz").status_code == 200


def test_size_limits_are_enforced(index: dt.MemoryIndex) -> None:
    limits = Limits(image_bytes=40_000, json_bytes=2_000, query_bytes=1_000, pixels=50_000)
    app = create_app(index, describer=GridExtractor(), limits=limits)
    with TestClient(app, base_url=HERE) as client:
        declared = client.post("/v1/search/image", content=bytes(200_000), headers=IMAGE)
        slightly = client.post("/v1/search/image", content=bytes(41_000), headers=IMAGE)
        undeclared = client.post("/v1/search/image", content=(bytes(1_000) for _ in range(200)), headers=IMAGE)
        form = client.post("/v1/search/image", files={"image": ("a.jpg", bytes(200_000), "image/jpeg")})
        for answer in (declared, slightly, undeclared, form):
            assert answer.status_code == 413, answer.text
        json_declared = client.post("/v1/search/id", json={"id": "a", "fields": ["x" * 2_000]})
        assert json_declared.status_code == 413
        body = (b" " * 100 for _ in range(20))
        json_headers = {"Content-Type": "application/json"}
        assert client.post("/v1/search/id", content=body, headers=json_headers).status_code == 413
        batch = {"documents": [{"id": "x" * 2_000, "vector": [1.0]}]}
        assert client.post("/v1/documents", json=batch).status_code == 413
        many = client.post("/v1/search/image", content=jpeg(1, width=250, height=201), headers=IMAGE)
        assert many.status_code == 413
        assert "50,250 pixels; the limit is 50,000" in many.json()["detail"]


def test_search_by_image_needs_an_extractor(index: dt.MemoryIndex) -> None:
    with TestClient(create_app(index), base_url=HERE) as client:
        assert client.post("/v1/search/image", content=jpeg(1), headers=IMAGE).status_code == 501
        assert not client.get("/v1/status").json()["images"]
