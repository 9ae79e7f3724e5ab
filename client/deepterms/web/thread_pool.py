"""Pool: blocking calls in a bounded number of threads, with a bounded queue and a time limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from deepterms.web.errors import Problem

__all__ = ["Pool"]

T = TypeVar("T")


class Pool:
    """Threads for one kind of call, so that slow calls of one kind hold up no other kind and never the page.

    Args:
        name: of the kind.
        threads: calls under way at once.
        waiting: further calls that wait; one more is refused.
        seconds: for one call, waiting included. A call that is under way then goes on, and keeps its thread, until
            the cluster answers or its client gives up; nobody waits for it any more.
    """

    def __init__(self, name: str, *, threads: int, waiting: int, seconds: float) -> None:
        self.name = name
        self._room = threads + waiting
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"deepterms-{name}")
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Calls that are under way or wait."""
        return self._taken

    async def run(self, call: Callable[[], T]) -> T:
        """Make a call.

        Raises:
            Problem: 503 if too many wait, 504 if it took too long.
        """
        with self._lock:
            if self._taken >= self._room:
                raise Problem(503, f"too many requests wait for {self.name} already; try again")
            self._taken += 1
        future: Future[T] = self._executor.submit(call)
        future.add_done_callback(self._release)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except (TimeoutError, asyncio.TimeoutError):
            if future.done() and not future.cancelled():
                return future.result()  # the call's own TimeoutError, or an answer at the last moment
            raise Problem(504, f"no answer within {self._seconds:g} s") from None

    def close(self) -> None:
        """Take no more calls; those under way are not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release(self, future: Future[T]) -> None:
        with self._lock:
            self._taken -= 1
