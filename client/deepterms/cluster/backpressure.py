"""Back-pressure: the size of bulk requests and the delay before retries, adapted to how the cluster responds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from random import Random
from threading import Lock

__all__ = ["DOCUMENTS_PER_BULK", "Backpressure"]

logger = logging.getLogger("deepterms")

DOCUMENTS_PER_BULK = 1_000
CHARACTERS_PER_BULK = 16 * 2**20  # 1,000 documents of 2,048 dimensions, with their vectors, have 12 million

# Retries after about 0.5, 1, 2, … s: 90 s in all, longer than a node takes to restart.
RETRIES = 8
FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 30.0

# Twenty-five accepted requests in a row undo one halving of the full size.
GROWTH = DOCUMENTS_PER_BULK // 50


class Backpressure:
    """Adaptive batch size and exponential backoff with jitter, shared by all threads that write to one cluster.

    An overloaded cluster halves the batch size; each accepted request grows it by a fiftieth of the full size. The
    backoff doubles with every retry, and half of it is random, so that clients rejected together do not retry together.

    Args:
        random: returns random numbers from 0 to 1, for the jitter.
        sleep: waits for the given number of seconds. With another function than `time.sleep`, time passes only in it.

    Attributes:
        documents: the current limit of documents per request.
        characters: the current limit of characters per request; a request contains at least one document.
        exhausted: all retries failed, and no request has been accepted since. Further rejections are not retried.
    """

    def __init__(
        self, *, random: Callable[[], float] | None = None, sleep: Callable[[float], object] | None = None
    ) -> None:
        self.documents = DOCUMENTS_PER_BULK
        self.characters = CHARACTERS_PER_BULK
        self.exhausted = False
        # Not seeded: with equal delays, two clients would collide on every retry.
        self._random = random or Random().random
        self._really_sleep = sleep or time.sleep
        self._slept = 0.0
        self._is_real = sleep is None
        self._lock = Lock()

    def now(self) -> float:
        """Return the time, in seconds from an arbitrary moment."""
        return time.monotonic() if self._is_real else self._slept

    def _sleep(self, seconds: float) -> None:
        self._really_sleep(seconds)
        self._slept += seconds

    @property
    def retries(self) -> int:
        """How often to retry while the cluster accepts nothing."""
        return 0 if self.exhausted else RETRIES

    def count_fitting(self, sizes: Sequence[int]) -> int:
        """Count how many documents, from the first on, fit into the next request; at least 1.

        Args:
            sizes: the number of characters of each document.
        """
        total = 0
        for count, size in enumerate(sizes[: self.documents]):
            total += size
            if total > self.characters:
                return max(count, 1)
        return max(min(len(sizes), self.documents), 1)

    def grow(self) -> None:
        """Increase the batch size after a request that the cluster accepted in full."""
        with self._lock:
            self.exhausted = False
            self.documents = min(self.documents + GROWTH, DOCUMENTS_PER_BULK)

    def shrink(self, sent: int, reason: str) -> None:
        """Halve the batch size after the cluster was overloaded.

        Args:
            sent: how many documents the rejected request contained.
            reason: why it was rejected.
        """
        with self._lock:
            # Half of what was sent: two threads that are rejected at the same time halve the size only once.
            smaller = max(sent // 2, 1)
            if smaller < self.documents:
                self.documents = smaller
                logger.warning("bulk requests shrink to %d documents: %s", smaller, reason)

    def shrink_characters(self, characters: int) -> None:
        """Halve the size in characters after a request exceeded a limit of the cluster or a proxy. It never grows back.

        Args:
            characters: how many characters the rejected request contained.
        """
        with self._lock:
            smaller = max(characters // 2, 1)
            if smaller < self.characters:
                self.characters = smaller
                logger.warning("bulk requests shrink to %d characters: the cluster rejects larger ones", smaller)

    def back_off(self, rejections: int, *, documents: int, reason: str) -> None:
        """Wait before a retry: an exponentially growing delay, half of it random.

        Args:
            rejections: how many requests in a row were rejected, at least 1.
            documents: how many documents are to be sent again.
            reason: why the last request was rejected.
        """
        longest = min(FIRST_WAIT_SECONDS * 2.0 ** (rejections - 1), MAX_WAIT_SECONDS)
        seconds = longest * (1 + self._random()) / 2
        logger.warning("retrying %d documents in %.1f s: %s", documents, seconds, reason)
        self._sleep(seconds)

    def wait(self, seconds: float) -> None:
        """Wait for a condition that is known to be temporary."""
        self._sleep(seconds)
