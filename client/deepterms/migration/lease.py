"""A lease: at most one holder a name, kept in the cluster, and free again some seconds after its holder died."""

from __future__ import annotations

import os
import socket
import time
from threading import Event, Thread
from types import TracebackType
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, MigrationFailed, RequestRejected

__all__ = ["LEASE_SECONDS", "Lease"]

LEASE_SECONDS = 15.0

# A holder counts itself out well before others do, so that a pause of its process can never make two holders.
HOLDERS_PART = 0.6
RENEWALS = 6  # in a lease's length
ATTEMPTS = 5


class Lease:
    """The right to migrate one name: a document in an index of its own, written again every few seconds.

    No clock is compared with another: who finds the document there watches it. If it is written again, its holder lives
    and the watcher is refused; if not for the length of a lease, the watcher takes over. Each write is conditional on
    the sequence number of the last, so of two that take over at once only one succeeds. Use as a context manager.

    Args:
        cluster: where.
        name: what is to be migrated.
        seconds: the length of a lease; all who ask for one name must agree on it.

    Raises:
        MigrationFailed: on entering: another holder lives.
    """

    def __init__(self, cluster: Cluster, name: str, *, seconds: float = LEASE_SECONDS) -> None:
        self.cluster = cluster
        self.name = name
        self.seconds = seconds
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._index = f"/deepterms-migration-{name}"
        self._last: dict[str, int] = {}  # sequence number and primary term of our last write
        self._renewed = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._renew, name="deepterms-lease", daemon=True)

    def __enter__(self) -> Lease:
        """Take the lease; waits for its length if a holder seems dead."""
        for _ in range(ATTEMPTS):
            if self._create() or self._take_over():
                self._thread.start()
                return self
        raise MigrationFailed(f"others are migrating {self.name!r} one after the other; run this again later")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the lease back."""
        self._stop.set()
        self._thread.join()
        if self._last:
            self.cluster.request("DELETE", self._index)

    def check(self) -> None:
        """Raise MigrationFailed unless the lease is still ours."""
        if not self._last or time.monotonic() - self._renewed > self.seconds * HOLDERS_PART:
            raise MigrationFailed(
                f"the lease on {self.name!r} was lost: the cluster did not answer for long, or this process stood "
                "still. Nothing is lost; run the migration again, it goes on where it was"
            )

    def _create(self) -> bool:
        """Take a lease that nobody has."""
        try:
            settings = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}
            self.cluster.request("PUT", self._index, body={"settings": {"index": settings}})
        except RequestRejected as error:
            if "resource_already_exists" not in str(error):
                raise
        return self._write({"op_type": "create"})

    def _take_over(self) -> bool:
        """Take the lease of a dead holder; False if it was released or taken meanwhile."""
        held, watched = self._held(), time.monotonic()
        while held is not None and time.monotonic() - watched < self.seconds:
            time.sleep(self.seconds / RENEWALS / 2)
            now = self._held()
            if now is not None and _written(now) != _written(held):
                raise MigrationFailed(
                    f"{self.name!r} is being migrated by {now['_source']['owner']}; wait until that is done, "
                    "or stop it and run this again"
                )
            held = now
        return held is not None and self._write(_written(held))

    def _held(self) -> dict[str, Any] | None:
        try:
            return dict(self.cluster.request("GET", f"{self._index}/_doc/lease"))
        except RequestRejected as error:
            if error.status == 404:
                return None
            raise

    def _write(self, condition: dict[str, Any]) -> bool:
        """Write the document; False if the condition does not hold."""
        asked = time.monotonic()
        try:
            answer = self.cluster.request(
                "PUT", f"{self._index}/_doc/lease", body={"owner": self.owner}, params=condition
            )
        except RequestRejected as error:
            if error.status in (404, 409):
                return False
            raise
        self._last, self._renewed = _written(answer), asked
        return True

    def _renew(self) -> None:
        while not self._stop.wait(self.seconds / RENEWALS):
            try:
                if not self._write(self._last):
                    self._last = {}  # somebody took over
                    return
            except ClusterError:
                continue  # perhaps the next time; `check` counts the seconds


def _written(answer: dict[str, Any]) -> dict[str, int]:
    return {"if_seq_no": answer["_seq_no"], "if_primary_term": answer["_primary_term"]}
