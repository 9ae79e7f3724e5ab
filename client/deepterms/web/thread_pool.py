"""ThreadPool: runs blocking calls in a bounded number of threads, with a bounded queue and a time limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TypeVar

from deepterms.web.errors import HttpError
from deepterms.web.limits import Limits

__all__ = ["ThreadPool", "ThreadPools"]

T = TypeVar("T")


class ThreadPool:
    """Threads for one kind of call, so that slow calls of one kind delay neither the other kinds nor the page.

    Args:
        name: the kind of call, such as "search".
        threads: concurrent calls.
        waiting: calls that may queue; any further call is rejected.
        seconds: time limit for one call, queueing included. A call that exceeds it while running keeps its thread until
            the cluster responds or its client gives up, but its result is discarded.
    """

    def __init__(self, name: str, *, threads: int, waiting: int, seconds: float) -> None:
        self.name = name
        self._capacity = threads + waiting
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"deepterms-{name}")
        self._lock = threading.Lock()
        self._pending = 0

    @property
    def pending(self) -> int:
        """The number of calls that are running or queued."""
        return self._pending

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in one of the threads and return its result.

        Raises:
            HttpError: 503 if the queue is full, 504 if the call took too long.
        """
        with self._lock:
            if self._pending >= self._capacity:
                raise HttpError(503, f"{self.name} queue is full; retry later")
            self._pending += 1
        future: Future[T] = self._executor.submit(call)
        future.add_done_callback(self._release)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except (TimeoutError, asyncio.TimeoutError):
            if future.done() and not future.cancelled():
                return future.result()  # the call's own TimeoutError, or a result at the last moment
            raise HttpError(504, f"no response within {self._seconds:g} s") from None

    def close(self) -> None:
        """Accept no more calls, without waiting for running ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release(self, future: Future[T]) -> None:
        with self._lock:
            self._pending -= 1


@dataclass(frozen=True)
class ThreadPools:
    """One pool for each kind of call.

    Attributes:
        searches: searches and explanations.
        parsings: parsing of JSON bodies.
        decodings: decoding of uploaded images.
        descriptions: extraction of descriptors.
        thumbnails: reading and decoding of photos.
        writes: adding and deleting documents.
        others: everything else.
    """

    searches: ThreadPool
    parsings: ThreadPool
    decodings: ThreadPool
    descriptions: ThreadPool
    thumbnails: ThreadPool
    writes: ThreadPool
    others: ThreadPool

    @classmethod
    def create(cls, limits: Limits) -> ThreadPools:
        """Size the pools according to the limits."""

        def pool(name: str, threads: int, *, seconds: float = limits.seconds) -> ThreadPool:
            return ThreadPool(name, threads=threads, waiting=limits.waiting, seconds=seconds)

        few = max(1, limits.threads // 4)
        return cls(
            searches=pool("search", limits.threads),
            parsings=pool("parsing", 1),  # more would only compete for the global lock
            decodings=pool("decoding", few),
            descriptions=pool("description", 1),  # torch uses all cores by itself
            thumbnails=pool("thumbnail", few),
            writes=pool("write", few, seconds=4 * limits.seconds),
            others=pool("request", few),
        )

    def close(self) -> None:
        """Accept no more calls."""
        for pool in self.by_name().values():
            pool.close()

    def by_name(self) -> dict[str, ThreadPool]:
        """The pools by the names of their attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
