"""What is known of a node: remembered in a file beside its data, and told to whoever asks."""

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
        port: of HTTP, on 127.0.0.1.
        version: OpenSearch's.
        heap: the Java heap, as "1g".
        started: when, in seconds since 1970.
    """

    pid: int
    port: int
    version: str
    heap: str
    started: float

    def write(self, path: Path) -> None:
        """Replaces the file in one step."""
        number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        Path(name).chmod(0o644)  # any user may ask for the status
        Path(name).replace(path)

    @classmethod
    def read(cls, path: Path) -> NodeState | None:
        """What the file says, or None if there is none or it is damaged."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class NodeStatus:
    """A node at one moment.

    Attributes:
        running: whether its process lives.
        data_dir: the folder of its indices, logs and state.
        log: the file that `Node.logs` reads.
        pid: process id.
        port: of HTTP, on 127.0.0.1.
        url: of HTTP.
        version: OpenSearch's.
        heap: the Java heap, as "1g".
        started: when, in UTC.
        health: `green`, `yellow` or `red`; None while it does not answer.
        documents: in all indices; None while it does not answer.
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
