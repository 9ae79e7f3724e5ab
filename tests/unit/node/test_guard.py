"""The door of a node without a node: who is let in, and that what passes is not changed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from deepterms.node import guard
from deepterms.node.door import choose_hidden_address
from deepterms.node.ports import find_free_ports

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the node has no door on Windows")


@pytest.fixture
def node() -> Iterator[socket.socket]:
    """A server that returns what it gets."""

    def echo(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while part := connection.recv(1 << 16):
                connection.sendall(part)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(choose_hidden_address()) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield listening
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """The process that the door belongs to."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield child
    child.kill()
    child.wait(10)


@pytest.fixture
def port(node: socket.socket, owner: subprocess.Popen[bytes]) -> Iterator[int]:
    listen = next(find_free_ports(0))
    host, inner = node.getsockname()
    options = [f"--listen={listen}", f"--host={host}", f"--port={inner}", f"--pid={owner.pid}"]
    child = subprocess.Popen([sys.executable, "-I", guard.__file__, *options])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", listen)):
            break
    yield listen
    owner.kill()
    owner.wait(10)
    assert child.wait(20) == 0  # it ends with its node


def exchange(port: int, *parts: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        received = []
        while part := connection.recv(1 << 20):
            received.append(part)
        return b"".join(received)


@pytest.mark.parametrize(
    "hosts",
    [
        b"Host: evil.example",
        b"Host: 127.0.0.1.evil.example:9200",
        b"Host: localhost\r\nHost: evil.example",
        b"Host: evil.example\r\nX: \r\nHost: localhost",
        b"Host: localhost@evil.example",
        b"X-Host: localhost",
        b"Host:",
        b"A: b",
    ],
)
def test_other_names_are_refused(port: int, hosts: bytes) -> None:
    assert exchange(port, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n\r\n").startswith(b"HTTP/1.1 421 ")


def test_a_head_without_end_is_refused(port: int) -> None:
    assert exchange(port, b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 20_000).startswith(b"HTTP/1.1 421 ")


def test_what_passes_is_not_changed(port: int) -> None:
    content = os.urandom(8 << 20)
    for host in (b"localhost:1", b"127.0.0.1", b"[::1]:9200", b"LocalHost"):
        head = b"POST / HTTP/1.1\r\nhost:\t" + host + b" \r\n\r\n"
        assert exchange(port, head[:9], head[9:], content[:100]) == head + content[:100]
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + content
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sending = threading.Thread(target=connection.sendall, args=(sent,))
        sending.start()
        received = bytearray()
        while len(received) < len(sent):
            received += connection.recv(1 << 20)
        sending.join()
    assert received == sent


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one address")
def test_hidden_addresses_differ() -> None:
    assert len({choose_hidden_address()[0] for _ in range(20)}) > 15
