from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from deepterms.errors import NodeError
from deepterms.node.ports import AUTOMATIC_PORTS, find_free_ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens on every address, as most servers do."""
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_rejected_with_its_holder(taken: int) -> None:
    with pytest.raises(NodeError, match=rf"port {taken} is taken by .*(pid {os.getpid()}|another program)"):
        next(find_free_ports(taken))


def test_a_free_port_is_the_only_candidate() -> None:
    free = next(find_free_ports(0))
    assert list(find_free_ports(free)) == [free]


def test_zero_gives_a_port_that_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", next(find_free_ports(0))))


def test_without_a_port_taken_ones_are_skipped() -> None:
    first = next(find_free_ports(None))
    assert first in AUTOMATIC_PORTS
    with socket.socket() as server:
        server.bind(("127.0.0.1", first))
        server.listen()
        assert first < next(find_free_ports(None))
