"""Lease: grants the right to migrate a name to one process at a time, and expires if that process dies."""

from __future__ import annotations

import os
import secrets
import socket
import time
from threading import Event, Thread
from types import TracebackType
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, MigrationFailed, RequestRejected

__all__ = ["LEASE_SECONDS", "Lease"]

LEASE_SECONDS = 15.0

# A holder considers its lease expired well before others do, so that a paused process never leads to two holders.
HOLDERS_PART = 0.6
RENEWALS = 6  # per length of a lease
ATTEMPTS = 5


class Lease:
    """The right to migrate one name: a document in a separate index, renewed every few seconds. A context manager.

    No clocks are compared. A process that finds the document watches it: if it is renewed, its holder is alive and the
    lease is denied; if it is not renewed for the length of a lease, the process takes over. Each write is conditional
    on the sequence number of the last one, so only one of several processes can take over.

    Args:
        cluster: the cluster.
        name: the alias to migrate.
        seconds: the length of a lease; must be the same for all processes that migrate the name.

    Raises:
        MigrationFailed: on entering, if another holder is alive.
    """

    def __init__(self, cluster: Cluster, name: str, *, seconds: float = LEASE_SECONDS) -> None:
        self.cluster = cluster
        self.name = name
        self.seconds = seconds
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._index = f"/deepterms-migration-{name}"
        self._token = secrets.token_hex(8)
        self._writes = 0
        self._last: dict[str, int] = {}  # sequence number and primary term of our last write
        self._renewed = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._renew, name="deepterms-lease", daemon=True)

    def __enter__(self) -> Lease:
        """Acquire the lease; wait for its length if the current holder seems to be dead."""
        for _ in range(ATTEMPTS):
            if self._create() or self._take_over():
                self._thread.start()
                return self
        raise MigrationFailed(f"other processes keep migrating {self.name!r}; run this again later")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lease."""
        self._stop.set()
        self._thread.join()
        if self._last:
            try:
                self.cluster.request("DELETE", self._index)
            except RequestRejected as failure:
                if failure.status != 404:  # 404: a repeated request, whose first response was lost
                    raise

    def check(self) -> None:
        """Raise MigrationFailed unless the lease is still ours."""
        if not self._last or time.monotonic() - self._renewed > self.seconds * HOLDERS_PART:
            raise MigrationFailed(
                f"the lease on {self.name!r} was lost: the cluster did not respond in time, or this process was "
                "suspended. No documents are lost; rerun the migration to resume it"
            )

    def _create(self) -> bool:
        """Acquire a lease that has no holder."""
        try:
            settings = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}
            self.cluster.request("PUT", self._index, body={"settings": {"index": settings}})
        except RequestRejected as error:
            if "resource_already_exists" not in str(error):
                raise
        return self._write({"op_type": "create"})

    def _take_over(self) -> bool:
        """Take over the lease of a dead holder; False if it was released or acquired meanwhile."""
        held, watched = self._read(), time.monotonic()
        while held is not None and time.monotonic() - watched < self.seconds:
            time.sleep(self.seconds / RENEWALS / 2)
            now = self._read()
            if now is not None and _build_condition(now) != _build_condition(held):
                raise MigrationFailed(
                    f"{self.name!r} is being migrated by {now['_source']['owner']}; wait until that is done, "
                    "or stop it and run this again"
                )
            held = now
        return held is not None and self._write(_build_condition(held))

    def _read(self) -> dict[str, Any] | None:
        try:
            return dict(self.cluster.request("GET", f"{self._index}/_doc/lease"))
        except RequestRejected as error:
            if error.status == 404:
                return None
            raise

    def _write(self, condition: dict[str, Any]) -> bool:
        """Write the document; False if the condition is not met."""
        started = time.monotonic()
        self._writes += 1
        body = {"owner": self.owner, "token": self._token, "writes": self._writes}
        try:
            answer = self.cluster.request("PUT", f"{self._index}/_doc/lease", body=body, params=condition)
        except RequestRejected as error:
            if error.status not in (404, 409):
                raise
            # A client library repeats a request if the response was lost; the second one meets the first one's write.
            held = self._read() if error.status == 409 else None
            if held is None or held["_source"] != body:
                return False
            answer = held
        self._last, self._renewed = _build_condition(answer), started
        return True

    def _renew(self) -> None:
        while not self._stop.wait(self.seconds / RENEWALS):
            try:
                if not self._write(self._last):
                    self._last = {}  # another process took over
                    return
            except ClusterError:
                continue  # try again; `check` detects when it has taken too long


def _build_condition(answer: dict[str, Any]) -> dict[str, int]:
    return {"if_seq_no": answer["_seq_no"], "if_primary_term": answer["_primary_term"]}
