"""The state of a node, stored in a file with its data, into the status that callers get."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["NodeState", "NodeStatus"]


@dataclass(frozen=True)
class NodeState:
    """A node that was started.

    Attributes:
        pid: process id.
        port: for HTTP, on 127.0.0.1.
        version: of OpenSearch.
        heap: the Java heap, such as "1g".
        started: start time, in seconds since 1970.
        door: process id of what guards the port; 0 for none.
    """

    pid: int
    port: int
    version: str
    heap: str
    started: float
    door: int = 0

    def write(self, path: Path) -> None:
        """Replace the file atomically."""
        number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        Path(name).chmod(0o644)  # every user can query the status
        Path(name).replace(path)

    @classmethod
    def read(cls, path: Path) -> NodeState | None:
        """Read the file; None if it is missing or damaged."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class NodeStatus:
    """The status of a node at one moment.

    Attributes:
        running: whether its process is running.
        data_dir: the folder of its indices, logs and state.
        log: the file that `Node.logs` reads.
        pid: process id.
        port: for HTTP, on 127.0.0.1.
        url: for HTTP.
        version: of OpenSearch.
        heap: the Java heap, such as "1g".
        started: start time, in UTC.
        health: `green`, `yellow` or `red`; None while the node does not respond.
        documents: number of documents in all indices; None while the node does not respond.
    """

    running: bool
    data_dir: Path
    log: Path
    pid: int | None = None
    port: int | None = None
    url: str | None = None
    version: str | None = None
    heap: str | None = None
    started: datetime | None = None
    health: str | None = None
    documents: int | None = None
