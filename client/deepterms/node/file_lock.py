"""A path to a moment in which no other process does the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepterms.errors import MissingExtra, NodeError

__all__ = ["locked"]


@contextmanager
def locked(path: Path, *, patience: float, doing: str) -> Iterator[None]:
    """Holds a lock file while the block runs; the system releases it if this process dies.

    Args:
        path: the lock file, which stays.
        patience: seconds to wait for whoever holds it.
        doing: what the other process then does, for the message.

    Raises:
        NodeError: it was held all that time.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingExtra("filelock", "node") from error
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise NodeError(f"another process {doing} and has not finished in {patience:.0f} s ({path})") from None
    try:
        yield
    finally:
        lock.release()
