"""A lock file into mutual exclusion between processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepterms.errors import NodeError
from deepterms.optional import require

__all__ = ["locked"]


@contextmanager
def locked(path: Path, *, timeout: float, activity: str) -> Iterator[None]:
    """Hold a lock file during the block; the system releases it if this process dies.

    Args:
        path: the lock file, which is not deleted.
        timeout: seconds to wait for another process that holds it.
        activity: what that process is doing, for the error message.

    Raises:
        NodeError: another process held the lock until the timeout.
    """
    with require("filelock", "node"):
        from filelock import FileLock, Timeout
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise NodeError(
            f"another process is still {activity} after {timeout:.0f} s and holds {path}; try again later"
        ) from None
    try:
        yield
    finally:
        lock.release()
