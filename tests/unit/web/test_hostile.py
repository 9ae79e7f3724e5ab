"""Requests that nobody sends by mistake: each costs little, is answered with a status, and harms no other request."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

import deepterms as dt
from deepterms.web import Limits, create_app
from deepterms.web.access import Access
from deepterms.web.errors import HttpError
from deepterms.web.json_bodies import parse_document
from deepterms.web.log_lines import printable
from tests.unit.web.conftest import HERE, GridExtractor
from tests.unit.web.servers import running

JSON = {"Content-Type": "application/json"}
SIZE = (8 << 20) - 100
TOKEN = "0123456789abcdef"


def fill(head: str, part: str, tail: str, *, size: int = SIZE) -> bytes:
    """A body of about the largest size that repeats a part."""
    return (head + part * ((size - len(head) - len(tail)) // len(part)) + tail).encode()


QUERY = (1 << 20) - 100
BODIES: dict[str, tuple[str, bytes]] = {
    "texts as numbers": ("/v1/search/vector", fill('{"query": [', '"x",', '"x"]}')),
    "texts as numbers, in the limit": ("/v1/search/vector", fill('{"query": [', '"x",', '"x"]}', size=QUERY)),
    "numbers": ("/v1/search/vector", fill('{"query": [', "1,", "1]}", size=QUERY)),
    "arrays": ("/v1/search/vector", fill('{"query": [', "[],", "[]]}", size=QUERY)),
    "filters": ("/v1/search/id", fill('{"id": "a", "filter": {', '"a":[{}],', '"b": 1}}', size=QUERY)),
    "members": ("/v1/search/id", fill('{"id": "a"', ',"a":1', "}", size=QUERY)),
    "depth": ("/v1/search/vector", fill('{"query": ', "[", "", size=QUERY)),
    "digits": ("/v1/search/vector", fill('{"query": [', "1", "]}", size=QUERY)),
    "quotes": ("/v1/search/id", fill('{"id": "', '\\"', '"}', size=QUERY)),
    "documents that are texts": ("/v1/documents", fill('{"documents": [', '"x",', '"x"]}')),
    "documents that are numbers": ("/v1/documents", fill('{"documents": [', "1,", "1]}")),
    "documents that are empty": ("/v1/documents", fill('{"documents": [', "{},", "{}]}")),
    "documents that are arrays": ("/v1/documents", fill('{"documents": [', "[],", "[]]}")),
    "a vector of texts": ("/v1/documents", fill('{"documents": [{"id": "a", "vector": [', '"x",', '"x"]}]}')),
    "a vector of arrays": ("/v1/documents", fill('{"documents": [{"id": "a", "vector": [', "[],", "[]]}]}")),
    "metadata": (
        "/v1/documents",
        fill('{"documents": [{"id": "a", "vector": [1], "metadata": {', '"a":1,', '"b":1}}]}'),
    ),
    "around the documents": ("/v1/documents", fill('{"documents": [], "refresh": [', "[],", "[]]}")),
    "depth of documents": ("/v1/documents", fill('{"documents": ', "[", "")),
    "an open text": ("/v1/documents", fill('{"documents": ["', "x", "")),
    "escapes": ("/v1/documents", fill('{"documents": [{"id": "', "\\\\", '"}]}')),
    "ids": ("/v1/documents/delete", fill('{"ids": [', "1,", "1]}")),
    "ids that are texts": ("/v1/documents/delete", fill('{"ids": [', '"",', '""]}')),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_large_body_costs_little(client: TestClient, name: str) -> None:
    path, body = BODIES[name]
    before = time.process_time()
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in {413, 422}, answer.text
    assert len(answer.text) < 1_000
    assert time.process_time() - before < 2.5  # seconds of this processor; up to 20 with an error object per element


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"query": ["x", 1.0]}, "query: expected numbers; got a text among them"),
        ({"query": [None]}, "got null among them"),
        ({"query": [True]}, "got a boolean among them"),
        ({"query": [[1.0]]}, "got an array among them"),
        ({"query": [10**400]}, "a number is too large"),
        ({"query": 7}, "expected a list of numbers or base64"),
        ({"query": [0.5] * 70_000}, "expected at most 65,536"),
        ({"query": [0.5], "fields": ["a"] * 51}, "expected at most 50"),
        ({"query": [0.5], "filter": {f"f{n}": [1] for n in range(17)}}, "expected at most 16"),
        ({"query": [0.5], "filter": {"f": [1] * 101}}, "expected at most 100"),
        ({"query": [0.5], **{f"m{n}": 1 for n in range(40)}}, "expected at most 32"),
    ],
)
def test_the_first_fault_is_named(client: TestClient, sent: Any, says: str) -> None:
    answer = client.post("/v1/search/vector", json=sent)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "invalid JSON"),
        ("[]", "valid dictionary"),
        ('{"documents": [1]}', "documents.0: expected an object"),
        ('{"documents": [{"id": "a", "vector": "x"} 1]}', "documents.1: expected an object"),
        ('{"documents": [{"id": "a", "vector": "x"},]}', "documents.1: expected an object"),
        ('{"documents": [{"id": "a", "vector": "x"}{"id": "b", "vector": "x"}]}', "documents.1: expected an object"),
        ('{"documents": [{"id": "a"}]}', "documents.0: vector: Field required"),
        ('{"documents": [{"id": "a", "vector": [1, "x"]}]}', "documents.0: vector: expected numbers"),
        ('{"documents": []}', "at least 1"),
        ('{"documents": {"id": "a"}}', "valid list"),
        ('{"documents": [{"id": "a", "vector": "x"}], "documents": [1]}', "one array `documents`"),
        ('{"other": [{"id": "a", "vector": "x"}]}', "one array `documents`"),
        ('{"documents": [{"id": "a", "vector": "x"}], "refresh": 7}', "refresh"),
        ('{"documents": [{"id": "a", "vector": "x"}]', "invalid JSON"),
        ('{"documents": [{"id": "a", "vector": "x"}]} x', "invalid JSON"),
        ('{"documents": [{"id": "\\ud800", "vector": "x"}]}', "documents.0: invalid JSON"),
    ],
)
def test_a_wrong_batch_is_rejected_by_document(client: TestClient, text: str, says: str) -> None:
    answer = client.post("/v1/documents", content=text.encode(), headers=JSON)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_documents_with_any_text_are_found_in_a_batch(client: TestClient) -> None:
    """The boundaries of documents are found without parsing, so text that looks like JSON must not move them."""
    rng = np.random.default_rng(3)
    pieces = ['"', "\\", "[", "]", "{", "}", ",", "\n", "é", "😀", "\\\\", '\\"', "a"]
    documents: list[dict[str, Any]] = [
        {
            "id": f"{number}-" + "".join(rng.choice(pieces, 8)),
            "vector": rng.standard_normal(48).tolist() if number % 2 else base64.b64encode(bytes(range(192))).decode(),
            "metadata": {"".join(rng.choice(pieces, 3)): ["".join(rng.choice(pieces, 20))], "n": {"deep": [[number]]}},
        }
        for number in range(200)
    ]
    for indent in (None, 2):
        body = json.dumps({"documents": documents, "refresh": True}, indent=indent, ensure_ascii=bool(indent))
        answer = client.post("/v1/documents", content=body.encode(), headers=JSON)
        assert answer.json()["succeeded"] == len(documents), answer.text
    for document in documents:
        held = client.get("/v1/document", params={"id": document["id"]}).json()
        assert held["metadata"] == document["metadata"]


def test_a_line_of_a_stream_costs_little(client: TestClient) -> None:
    line = fill('{"id": "a", "vector": [', '"x",', '"x"]}\n', size=1 << 20)
    before = time.process_time()
    answer = client.post("/v1/documents/stream", content=line * 4, headers={"Content-Type": "application/x-ndjson"})
    last = json.loads(answer.text.splitlines()[-1])
    assert last["done"]
    assert time.process_time() - before < 2.5
    with pytest.raises(ValueError, match="too many values"):
        parse_document(fill("[", "[],", "[]]", size=1 << 20))


# From here on over sockets, as clients that stop in the middle of a request.


@contextmanager
def served(index: dt.MemoryIndex, limits: Limits, **access: Any) -> Iterator[tuple[str, int]]:
    app = create_app(index, describer=GridExtractor(), limits=limits, access=Access(**access))
    with running(app, limits) as url:
        parts = urlsplit(url)
        yield str(parts.hostname), int(parts.port or 0)


def begin(address: tuple[str, int], sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(address, timeout=20)
    connection.sendall(sent)
    return connection


def receive_all(connection: socket.socket) -> bytes:
    received = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 20):
            received.append(part)
    return b"".join(received)


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def is_healthy(address: tuple[str, int]) -> bool:
    answer = httpx.get(f"http://{address[0]}:{address[1]}/healthz", timeout=20)
    return answer.status_code == 200


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", head("GET", "/healthz")[:-2], head("GET", "/healthz") + b"GET"])
def test_unfinished_headers_time_out(index: dt.MemoryIndex, sent: bytes) -> None:
    with served(index, Limits(header_seconds=0.5)) as address, begin(address, sent) as connection:
        assert receive_all(connection).count(b"alive") == sent.count(b"\r\n\r\n")


def test_headers_that_arrive_bit_by_bit_time_out(index: dt.MemoryIndex) -> None:
    with (
        served(index, Limits(header_seconds=0.5)) as address,
        begin(address, b"GET / HTTP/1.1\r\n") as connection,
        pytest.raises(OSError),
    ):
        for number in range(200):
            connection.sendall(f"X-{number}: a\r\n".encode())
            time.sleep(0.1)


def test_more_connections_than_allowed_give_way(index: dt.MemoryIndex) -> None:
    with served(index, Limits(connections=20)) as address, ExitStack() as opened:
        for _ in range(60):
            opened.enter_context(begin(address, b"GET / HT"))
            assert is_healthy(address)


SERVER = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import deepterms as dt
from deepterms.web import create_app
from tests.unit.web.servers import running
with running(create_app(dt.MemoryIndex(dt.DeepPermutation(48, top_k=20)))) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on open files")
def test_a_server_that_may_open_few_files_outlives_many_connections() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout
        parts = urlsplit(server.stdout.readline().strip())
        address = (str(parts.hostname), int(parts.port or 0))
        with ExitStack() as opened:
            for _ in range(300):
                opened.enter_context(begin(address, b"GET / HT"))
            assert is_healthy(address)
        server.stdin.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/search/id", "application/json"), ("/v1/documents", "application/json"), ("/v1/search/image", "image/jpeg")],
)
def test_bodies_that_arrive_slowly_get_408(index: dt.MemoryIndex, path: str, kind: str) -> None:
    request = head("POST", path, f"Content-Type: {kind}", "Content-Length: 500")
    with served(index, Limits(seconds=0.7)) as address, begin(address, request) as connection:
        sending = threading.Thread(target=drip, args=(connection,))
        sending.start()
        answer = receive_all(connection)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in answer.lower()
        sending.join()


def drip(connection: socket.socket) -> None:
    with suppress(OSError):
        for _ in range(50):
            connection.sendall(b" ")
            time.sleep(0.1)


def test_a_line_of_a_stream_that_arrives_slowly_ends_it(index: dt.MemoryIndex) -> None:
    request = head("POST", "/v1/documents/stream", "Content-Type: application/x-ndjson", "Content-Length: 500")
    limits = Limits(seconds=0.7, header_seconds=1)
    with served(index, limits) as address, begin(address, request + b'{"id"\n{"id') as connection:
        drip(connection)
        assert b"a line did not arrive within 0.7 s" in receive_all(connection)


async def send_much(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with more than the buffers of two sockets hold."""
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def test_a_client_that_does_not_read_is_disconnected() -> None:
    with running(send_much, Limits(seconds=0.7)) as url:
        address = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
        with begin(address, head("GET", "/")) as reading:
            assert len(receive_all(reading)) > 64 << 20
        with begin(address, head("GET", "/")) as waiting:
            time.sleep(3)
            assert len(receive_all(waiting)) < 64 << 20


def test_abandoned_uploads_are_given_back(index: dt.MemoryIndex, caplog: pytest.LogCaptureFixture) -> None:
    request = head("POST", "/v1/search/image", "Content-Type: image/jpeg", "Content-Length: 200000")
    limits = Limits(held_bytes=500_000)
    caplog.set_level(logging.INFO, "deepterms.web")
    with served(index, limits) as address:
        for _ in range(3):
            with ExitStack() as opened:
                for _ in range(4):
                    opened.enter_context(begin(address, request + bytes(120_000)))
                wait_until(lambda: post_image(address) == 503)
            wait_until(lambda: post_image(address) == 415)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert sum("closed the connection" in record.getMessage() for record in caplog.records) == 12
    assert {
        record.args[3] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 5
    } >= {
        415,
        499,
        503,
    }


def post_image(address: tuple[str, int]) -> int:
    url = f"http://{address[0]}:{address[1]}/v1/search/image"
    return httpx.post(url, content=b"x" * 60_000, headers={"Content-Type": "image/jpeg"}, timeout=20).status_code


def test_streams_hold_bytes_too(index: dt.MemoryIndex) -> None:
    request = head("POST", "/v1/documents/stream", "Content-Type: application/x-ndjson", "Content-Length: 500")
    with served(index, Limits(held_bytes=20 << 20)) as address, begin(address, request), begin(address, request):
        wait_until(lambda: b" 503 " in exchange(address, request))
        assert is_healthy(address)


def exchange(address: tuple[str, int], request: bytes) -> bytes:
    with begin(address, request) as connection:
        connection.settimeout(1)
        try:
            return connection.recv(4096)
        except TimeoutError:
            return b""


@pytest.mark.parametrize("trusted", [False, True])
def test_a_forwarded_address_counts_from_a_trusted_proxy_only(index: dt.MemoryIndex, trusted: bool) -> None:
    limits = Limits(per_client=2)
    app = create_app(index, describer=GridExtractor(), limits=limits)
    request = ("POST", "/v1/search/image", "Content-Type: image/jpeg", "Content-Length: 9")
    with running(app, limits, trusted_proxies=["127.0.0.1"] if trusted else []) as url, ExitStack() as opened:
        address = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
        for number in range(2):
            opened.enter_context(begin(address, head(*request, f"X-Forwarded-For: 10.0.0.{number}")))
        time.sleep(0.3)
        answer = httpx.get(f"{url}/v1/status", headers={"X-Forwarded-For": "10.0.0.9"})
        assert answer.status_code == (200 if trusted else 429)


# Tokens


@pytest.fixture
def guarded(index: dt.MemoryIndex) -> Iterator[TestClient]:
    with TestClient(create_app(index, access=Access(token=TOKEN, hosts=None)), base_url=HERE) as client:
        yield client


def test_wrong_tokens_are_throttled(guarded: TestClient) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/v1/session", json={"token": TOKEN}).status_code == 204
    for number in range(5):
        wrong = {"Authorization": f"Bearer {number:016}"}
        cookies = {"Cookie": ""}
        assert guarded.get("/v1/status", headers=wrong | cookies).status_code == 401
        assert guarded.get("/v1/status", headers=right | cookies).status_code == 200  # costs nothing
        assert guarded.post("/v1/session", json={"token": f"{number:016}"}, headers=cookies).status_code == 401
    for _ in range(3):
        rejected = guarded.get("/v1/status", headers=right)  # nobody learns from the answer that it was right
        assert rejected.status_code == 429
        assert 1 <= int(rejected.headers["Retry-After"]) <= 10
    assert guarded.get("/v1/status").status_code == 200  # by cookie
    assert guarded.get("/healthz").status_code == 200


@pytest.mark.parametrize("token", ["pässwort-pässwort", "\ud800" * 16, "\x00" * 16, "密" * 16])
def test_tokens_that_are_not_ascii_are_wrong(guarded: TestClient, token: str) -> None:
    header = {b"Authorization": f"Bearer {token}".encode("utf-8", "surrogatepass")}
    assert guarded.get("/v1/status", headers=header).status_code in {400, 401}
    answer = guarded.post("/v1/session", content=json.dumps({"token": token}).encode(), headers=JSON)
    assert answer.status_code in {401, 422}
    cookie = {b"Cookie": f"deepterms_session={token}".encode("utf-8", "surrogatepass")}
    assert guarded.get("/v1/status", headers=cookie).status_code == 401


def test_errors_of_the_server_can_be_pickled() -> None:
    error = HttpError(429, "too many", headers={"A": "b"})
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.status, copied.detail, copied.headers, str(copied)) == (429, "too many", error.headers, "too many")


# The log


def test_log_lines_cannot_be_forged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deepterms.web")
    for path in (
        "/v1/x%0d%0a0 GET /v1/status 200 1.0 ms",
        "/%1b[2J%1b[31m",
        "/%E2%80%AEevil",
        "/" + "a" * 5_000,
        "/%ff",
    ):
        client.get(path, headers={"X-Request-ID": "a\x1b[2J b", "User-Agent": "\x1b[2J"})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    for line in lines:
        assert line.isprintable()
        assert len(line) < 400
        assert len(line.split(" ")) == 6


def test_printable_escapes_what_a_terminal_obeys() -> None:
    assert printable("a\r\nb\x1b[0m\u202e\ud800\x9b é 😀") == "a\\r\\nb\\x1b[0m\\u202e\\ud800\\x9b é 😀"


def test_concurrent_hostile_bodies_leave_the_server_alive(index: dt.MemoryIndex) -> None:
    with served(index, Limits()) as address, ThreadPoolExecutor(8) as threads:
        url = f"http://{address[0]}:{address[1]}"
        sent = [
            threads.submit(httpx.post, url + path, content=body, headers=JSON, timeout=60)
            for path, body in BODIES.values()
        ]
        while not all(one.done() for one in sent):
            assert is_healthy(address)
        for one in sent:
            try:
                assert one.result().status_code in {413, 422, 503, 504}
            except httpx.TransportError:  # the server closed the connection while the body was being sent
                continue
