"""A port request into free local ports for the node."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

from deepterms.errors import NodeError
from deepterms.optional import require

__all__ = ["AUTOMATIC_PORTS", "LOCALHOST", "find_free_ports"]

LOCALHOST = "127.0.0.1"

# OpenSearch's own default range.
AUTOMATIC_PORTS = range(9200, 9300)


def find_free_ports(port: int | None) -> Iterator[int]:
    """Find free ports, in the order to try them.

    Args:
        port: this port only; 0 for any port that the system assigns; None for the free ones from 9200 to 9299.

    Raises:
        NodeError: the port requested is taken.
    """
    if port == 0:
        while True:
            yield _pick_free_port()
    elif port is not None:
        if not _is_free(port):
            raise NodeError(
                f"port {port} is taken by {_describe_holder(port)}; choose another, or omit it for the first free one"
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
        # macOS allows binding 127.0.0.1 while a server listens on all addresses, so binding alone proves nothing.
        if probe.connect_ex((LOCALHOST, port)) == 0:
            return False
    with socket.socket() as probe:
        if os.name != "nt":  # on Windows this option would take the port away from its holder
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _describe_holder(port: int) -> str:
    with require("psutil", "node"):
        import psutil
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # some systems, such as macOS, hide this from other users
    return "another program"
