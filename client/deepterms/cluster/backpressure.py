"""Back-pressure: how much to send at once and how long to wait, from what the cluster answered before."""

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

# A refused request is sent again after about 0.5, 1, 2, … s: 90 s in all, longer than a node takes to restart.
RETRIES = 8
FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 30.0

# Twenty-five accepted requests in a row undo one halving of the full size.
GROWTH = DOCUMENTS_PER_BULK // 50


class Backpressure:
    """The size of bulk requests and the pauses between them; all threads that write to one cluster share it.

    A request is halved when the cluster has too much to do, and grown by a fiftieth of its full size when it is
    accepted. Pauses double, and half of each is random, so that clients refused together do not come back together.

    Args:
        random: numbers from 0 to 1 for the jitter.
        sleep: waits for so many seconds.

    Attributes:
        documents: how many a request holds at most now.
        characters: how many its lines have together at most now; a request holds one document at least.
        exhausted: the retries of some document were used up, and none was accepted since: nothing is waited for.
    """

    def __init__(
        self, *, random: Callable[[], float] | None = None, sleep: Callable[[float], object] | None = None
    ) -> None:
        self.documents = DOCUMENTS_PER_BULK
        self.characters = CHARACTERS_PER_BULK
        self.exhausted = False
        # Not seeded: two clients with the same pauses would meet again and again.
        self._random = random or Random().random
        self._sleep = sleep or time.sleep
        self._lock = Lock()

    @property
    def retries(self) -> int:
        """How often a document is sent again while nothing gets through."""
        return 0 if self.exhausted else RETRIES

    def fitting(self, sizes: Sequence[int]) -> int:
        """How many of these documents, from the first on, the next request may hold; 1 at least.

        Args:
            sizes: characters of each.
        """
        total = 0
        for count, size in enumerate(sizes[: self.documents]):
            total += size
            if total > self.characters:
                return max(count, 1)
        return max(min(len(sizes), self.documents), 1)

    def accepted(self) -> None:
        """The cluster took documents without complaint."""
        with self._lock:
            self.exhausted = False
            self.documents = min(self.documents + GROWTH, DOCUMENTS_PER_BULK)

    def shrink(self, sent: int, why: str) -> None:
        """The cluster has too much to do for a request of so many documents."""
        with self._lock:
            # From what was sent, so that two threads refused at once halve it once.
            smaller = max(sent // 2, 1)
            if smaller < self.documents:
                self.documents = smaller
                logger.warning("bulk requests shrink to %d documents: %s", smaller, why)

    def too_large(self, characters: int) -> None:
        """A request of so many characters is over a limit of the cluster or of a proxy, which will not pass."""
        with self._lock:
            smaller = max(characters // 2, 1)
            if smaller < self.characters:
                self.characters = smaller
                logger.warning("bulk requests shrink to %d characters: the cluster takes no larger ones", smaller)

    def pause(self, refusals: int, *, documents: int, why: str) -> None:
        """Wait before documents are sent again.

        Args:
            refusals: how many requests were refused in a row, 1 at least.
            documents: how many wait.
            why: the last refusal.
        """
        longest = min(FIRST_WAIT_SECONDS * 2.0 ** (refusals - 1), MAX_WAIT_SECONDS)
        seconds = longest * (1 + self._random()) / 2
        logger.warning("%d documents are sent again in %.1f s: %s", documents, seconds, why)
        self._sleep(seconds)

    def wait(self, seconds: float) -> None:
        """Wait for something that is known to pass."""
        self._sleep(seconds)
