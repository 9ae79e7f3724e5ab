"""A node into one with a door: an address that no web page can guess, and the process that guards the known port."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

from deepterms.node import guard
from deepterms.node.child_process import spawn_child
from deepterms.node.folders import Owner
from deepterms.node.ports import LOCALHOST

__all__ = ["choose_hidden_address", "has_door", "open_door", "read_address"]

_PORTS = range(20_000, 32_000)  # below those that systems assign to outgoing connections
_TRIES = 100


def has_door() -> bool:
    """Whether this system has a door: on Windows, the node itself listens on the known port."""
    return os.name != "nt"


def choose_hidden_address() -> tuple[str, int]:
    """Choose an address and a port of this machine.

    On Linux one of 16 million addresses, and one of 12,000 ports; elsewhere 127.0.0.1 is the only address that every
    machine has, so a page that tries all ports can find it.
    """
    for _ in range(_TRIES):
        host = LOCALHOST
        if sys.platform.startswith("linux"):
            host = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}"
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return host, port
    raise OSError("no port is free")


def open_door(
    listen: int, address: tuple[str, int], *, pid: int, marker: str, folder: Path, owner: Owner | None
) -> int:
    """Start the process that guards a port of 127.0.0.1; it ends when the node does.

    Args:
        listen: the port.
        address: host and port of the node.
        pid: of the node.
        marker: an argument to find the process by.
        folder: its working folder, and that of its output.
        owner: the user that it becomes; None for the current user.

    Returns:
        Its process id.
    """
    host, port = address
    command = [sys.executable, "-I", str(guard.__file__), f"--listen={listen}", f"--host={host}", f"--port={port}"]
    command += [f"--pid={pid}", marker]
    if owner:  # which it becomes by itself, because its user may not be able to read Python
        command += [f"--user={owner.uid}", f"--group={owner.gid}"]
    return spawn_child(command, folder=folder, output=folder / "door.log", owner=None)


def read_address(process: Any) -> tuple[str, int]:
    """Read host and port of a running node, a psutil.Process, from its arguments."""
    given: dict[str, str] = {}
    for argument in process.cmdline():
        name, _, value = argument.partition("=")
        if name.startswith("-E"):
            given[name[2:]] = value
    return given.get("http.host", given.get("network.host", LOCALHOST)), int(given["http.port"])
