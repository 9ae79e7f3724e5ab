"""Patience: how long one call waits, in all, for what keeps the cluster from accepting its documents."""

from __future__ import annotations

import logging
from threading import Lock

from deepterms.cluster.backpressure import MAX_WAIT_SECONDS, Backpressure

__all__ = ["PATIENCE_SECONDS", "Patience"]

PATIENCE_SECONDS = 120  # longer than a migration blocks writes, and than engines take to promote a replica

logger = logging.getLogger("deepterms")


class Patience:
    """The patience of one call, shared by all its requests and threads.

    Each obstacle, such as the write block of an index, is waited for up to two minutes from the first document that it
    rejected, not from the first one of each request. Once that time is over, the call reports documents that meet the
    obstacle without waiting. An obstacle that was overcome and returns gets the full time again.

    Args:
        backpressure: of the cluster; waits, and says how much time has passed.
        seconds: how long to wait for one obstacle; 0 never waits.
    """

    def __init__(self, backpressure: Backpressure, *, seconds: float = PATIENCE_SECONDS) -> None:
        self.seconds = seconds
        self._backpressure = backpressure
        self._since: dict[str, float] = {}
        self._in_engine: set[str] = set()
        self._refusal: tuple[str, float] | None = None
        self._lock = Lock()

    @property
    def left_in_engine(self) -> float:
        """For how many seconds the engine should wait itself: until the patience with its oldest obstacle is over."""
        with self._lock:
            since = min((self._since[obstacle] for obstacle in self._in_engine), default=None)
        return self.seconds if since is None else max(0.0, since + self.seconds - self._backpressure.now())

    def allows(self, obstacle: str, *, in_engine: bool = False) -> bool:
        """Whether to wait for an obstacle once more; the first time, this begins its time and logs what is waited for.

        Args:
            obstacle: what is waited for, as a noun: ``the write block of holidays to be removed``.
            in_engine: whether the engine itself waits for it before it rejects a document.
        """
        if not self.seconds:
            return False
        now = self._backpressure.now()
        with self._lock:
            new = obstacle not in self._since
            since = self._since.setdefault(obstacle, now)
            if in_engine:
                self._in_engine.add(obstacle)
        if new:
            logger.warning("waiting up to %.0f s for %s", self.seconds, obstacle)
        return now - since < self.seconds

    def overcome(self, obstacle: str) -> None:
        """Note that a document was accepted that an obstacle would have rejected."""
        if obstacle not in self._since:
            return
        with self._lock:
            since = self._since.pop(obstacle, None)
            self._in_engine.discard(obstacle)
        if since is not None:
            logger.info("no longer waiting for %s, after %.1f s", obstacle, self._backpressure.now() - since)

    def give_up(self, reason: str) -> None:
        """Note that all retries of a request failed: for half a minute, other requests are not even sent."""
        with self._lock:
            self._refusal = reason, self._backpressure.now() + MAX_WAIT_SECONDS

    def explain_refusal(self) -> str:
        """Return why a request need not be sent, because the call has given up; empty if it should be sent."""
        with self._lock:
            if self._refusal is None or self._backpressure.now() >= self._refusal[1]:
                return ""
            return self._refusal[0]
