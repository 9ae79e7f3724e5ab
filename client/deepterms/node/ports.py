"""Which local port the node may take."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from deepterms.errors import MissingExtra, NodeError

__all__ = ["AUTOMATIC_PORTS", "LOCALHOST", "find_free_ports"]

LOCALHOST = "127.0.0.1"

# OpenSearch's own default range.
AUTOMATIC_PORTS = range(9200, 9300)


def find_free_ports(port: int | None) -> Iterator[int]:
    """Free ports in the order to try them.

    Args:
        port: that one and no other; 0 for any that the system gives; None for the first free one from 9200 to 9299.

    Raises:
        NodeError: the port, or every port of the range, is taken.
    """
    if port == 0:
        while True:
            yield _pick_free_port()
    elif port is not None:
        if not _is_free(port):
            raise NodeError(
                f"port {port} is taken by {_describe_holder(port)}; choose another, or leave the port out for the first free one"
            )
        yield port
    else:
        yield from filter(_is_free, AUTOMATIC_PORTS)


def _pick_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        # macOS lets one bind 127.0.0.1 beside a server that listens on every address, so binding locked proves nothing.
        if probe.connect_ex((LOCALHOST, port)) == 0:
            return False
    with socket.socket() as probe:
        if os.name != "nt":  # there it would mean taking the port away from its holder
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _describe_holder(port: int) -> str:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtra("psutil", "node") from error
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # who listens is not everybody's to know, on macOS for one
    return "another program"
