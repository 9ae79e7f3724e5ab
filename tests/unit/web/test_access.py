"""Which requests are allowed, by token, host name and origin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.web import create_app
from deepterms.web.access import Access, is_loopback
from tests.unit.web.conftest import HERE, name_of

TOKEN = "a token of sufficient length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ADD = {"documents": [{"id": "a", "vector": [1.0] * 48}]}


@pytest.fixture
def guarded(index: dt.MemoryIndex) -> Iterator[TestClient]:
    access = Access.of("0.0.0.0", token=TOKEN)
    with TestClient(create_app(index, access=access), base_url="http://search.example.org") as client:
        yield client


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "search.example.org", ""])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(InvalidInput, match="token"):
        Access.of(host, token=None)
    assert Access.of(host, token=TOKEN).token == TOKEN
    with pytest.raises(InvalidInput, match="16 or more"):
        Access.of(host, token="short")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_addresses_need_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Access.of(host, token=None).token is None


def test_token_or_cookie_is_required_except_for_the_page(guarded: TestClient) -> None:
    for path in ("/", "/static/page.js", "/healthz", "/readyz"):
        assert guarded.get(path).status_code == 200
    for path in ("/v1/status", "/metrics", "/openapi.json", "/v1/thumbnail?id=a", "/nowhere"):
        rejected = guarded.get(path)
        assert rejected.status_code == 401, path
        assert rejected.headers["WWW-Authenticate"] == "Bearer"
        assert rejected.json()["detail"] == "missing or invalid bearer token"
    assert guarded.get("/v1/status", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/v1/status", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert guarded.get("/v1/status", headers={"Cookie": "deepterms_session=wrong"}).status_code == 401
    assert guarded.get("/v1/status", headers={"Cookie": f"deepterms_session={TOKEN}"}).status_code == 401
    assert guarded.get("/v1/status", headers=BEARER).status_code == 200
    assert guarded.post("/v1/session", json={"token": "wrong"}).status_code == 401
    assert guarded.get("/v1/status").status_code == 401
    opened = guarded.post("/v1/session", json={"token": TOKEN})
    assert opened.status_code == 204
    cookie = opened.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/v1/status").status_code == 200  # the client stores the cookie


def test_unknown_host_names_are_rejected(client: TestClient) -> None:
    for name in ("evil.example.org", "127.0.0.1.evil.example.org", "", "[", "localhost.evil.example.org:80"):
        assert client.get("/v1/status", headers={"Host": name}).status_code == 421, name
    for name in ("localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"):
        assert client.get("/v1/status", headers={"Host": name}).status_code == 200, name


def test_additional_host_names_are_accepted(index: dt.MemoryIndex) -> None:
    access = Access.of("127.0.0.1", token=None, names=["Photos.example.org"])
    with TestClient(create_app(index, access=access), base_url="http://photos.example.org") as client:
        assert client.get("/v1/status").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_cross_site_writes_are_rejected(client: TestClient, index: dt.MemoryIndex, headers: dict[str, str]) -> None:
    before = index.count()
    assert client.post("/v1/documents", json=ADD, headers=headers).status_code == 403
    assert client.delete("/v1/document", params={"id": name_of(0)}, headers=headers).status_code == 403
    assert index.count() == before


def test_same_origin_writes_are_accepted(client: TestClient) -> None:
    assert client.post("/v1/documents", json=ADD, headers={"Origin": HERE}).status_code == 200


def test_read_only_rejects_all_writes(index: dt.MemoryIndex) -> None:
    before = index.count()
    with TestClient(create_app(index, access=Access(read_only=True)), base_url=HERE) as client:
        lines = {"Content-Type": "application/x-ndjson"}
        for answer in (
            client.post("/v1/documents", json=ADD),
            client.post("/v1/documents/stream", content=b"{}", headers=lines),
            client.post("/v1/documents/delete", json={"ids": [name_of(0)]}),
            client.delete("/v1/document", params={"id": name_of(0)}),
        ):
            assert answer.status_code == 403
        assert not client.get("/v1/status").json()["writable"]
    assert index.count() == before
