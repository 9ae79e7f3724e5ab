"""The workload during a fault: one thread adds documents, another one searches, and every result is checked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import ClusterError
from deepterms.results import Hits
from tests.clusters.containers import Client

__all__ = ["Documents", "Tally", "Workload"]

ENCODER = dt.DeepPermutation(64, top_k=16)
QUERIES = 4
STILL = 1_500
MOVING = 8_000  # one search can return all of them
DOCUMENTS_AT_ONCE = 10
PAUSE_SECONDS = 0.05
TOLERANCE = 2e-6  # for a cosine in the engine's float32
ALL = 10_000


@dataclass
class Tally:
    """The result of one fault, or of several of the same kind.

    Attributes:
        times: how often the fault was injected.
        acknowledged: documents that the cluster acknowledged.
        lost: acknowledged documents that were not found afterwards.
        wrong: hits with a score that differs from the one in memory, and responses that lack hits without saying so.
        searches: searches with a response.
        partial: responses that say that hits may be missing.
        errors: searches that failed.
        refused: documents reported as failed, and sent again.
        remarks: what was lost or wrong.
    """

    times: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: int = 0
    searches: int = 0
    partial: int = 0
    errors: int = 0
    refused: int = 0
    remarks: list[str] = field(default_factory=list)

    def __iadd__(self, other: Tally) -> Tally:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


class Documents:
    """Ids and descriptors, and the expected score of each with each query.

    Args:
        prefix: of the ids.
        count: number of documents.
        seed: for the descriptors.
    """

    def __init__(self, prefix: str, count: int, *, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.queries = generator.standard_normal((QUERIES, 64)).astype(np.float32)
        self.rows: NDArray[np.float32] = generator.standard_normal((count, 64)).astype(np.float32)
        self.ids = [f"{prefix}{number}" for number in range(count)]

    @cached_property
    def reference(self) -> Mapping[tuple[int, bool], Mapping[str, float]]:
        """(query, whether re-ranked) → id → score, in descending order of score."""
        memory = dt.MemoryIndex(ENCODER)
        memory.add(self.ids, self.rows)
        return {
            (query, exact): {hit.id: hit.score for hit in memory.search(row, k=ALL, rerank=ALL if exact else 0)}
            for query, row in enumerate(self.queries)
            for exact in (False, True)
        }

    def judge(self, hits: Hits, query: int, *, exact: bool) -> list[str]:
        """Describe each hit whose score differs from the one in memory."""
        scores = self.reference[query, exact]
        return [
            f"{hit.id} scored {hit.score}, not {scores.get(hit.id)}"
            for hit in hits
            if abs(hit.score - scores.get(hit.id, -9)) > (TOLERANCE if exact else 0)
        ]


class Workload:
    """Two indices of three shards with one replica each: one is only searched, the other one is being filled.

    Args:
        client: of the cluster.
        name: prefix of the indices' names.
        seed: for the documents.
    """

    def __init__(self, client: Client, name: str, *, seed: int) -> None:
        dt.deploy(client)
        self.tally = Tally(times=1)
        self.still_documents = Documents("s", STILL, seed=seed)
        self.documents = Documents("m", MOVING, seed=seed + 1)
        self.still, self.moving = (
            dt.SurrogateIndex.create(client, f"{name}-{part}", encoder=ENCODER, shards=3, replicas=1)
            for part in ("still", "moving")
        )
        for index in (self.still, self.moving):
            # A node that rejoins may at first appear without its copies. The others would then wait a minute before
            # creating new ones, and the test would wait with them.
            soon = {"index.unassigned.node_left.delayed_timeout": "2s"}
            index.cluster.request("PUT", f"/{index.name}/_settings", body=soon)
        added = self.still.add(self.still_documents.ids, self.still_documents.rows)
        assert added.succeeded == STILL, added.failed[:3]
        self.still.refresh()
        _ = self.still_documents.reference, self.documents.reference  # computed now, and not while searches are timed
        self.acknowledged: set[str] = set()
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add and search until the block ends."""
        problems: list[BaseException] = []

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=guarded, args=(work,)) for work in (self._add, self._search)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if problems:
            raise problems[0]

    def wait_for_progress(self, documents: int = 100, *, seconds: float = 90) -> None:
        """Wait until `documents` more are acknowledged, that is, until the cluster accepts writes again."""
        wanted = min(MOVING, len(self.acknowledged) + documents)
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {wanted} documents acknowledged after {seconds} s")
            time.sleep(0.05)

    def verdict(self) -> Tally:
        """Look for every acknowledged document in the recovered cluster."""
        tally = self.tally
        self.moving.refresh()
        lost = set(self.moving.reconcile(sorted(self.acknowledged)).missing)
        for query, row in enumerate(self.documents.queries):
            for exact in (False, True):
                hits = self.moving.search(row, k=ALL, rerank=ALL if exact else 0)
                tally.remarks += ["the last search is partial"] * hits.partial
                self._note(self.documents.judge(hits, query, exact=exact))
                lost |= self.acknowledged & self.documents.reference[query, exact].keys() - set(hits.ids)
        tally.acknowledged = len(self.acknowledged)
        tally.lost = len(lost)
        tally.remarks += [f"lost: {identifier}" for identifier in sorted(lost)[:5]]
        for index in (self.still, self.moving):
            index.drop()
        return tally

    def _add(self) -> None:
        waiting = list(range(MOVING))[::-1]
        while waiting and not self._stop.is_set():
            rows = [waiting.pop() for _ in range(min(DOCUMENTS_AT_ONCE, len(waiting)))]
            ids = [self.documents.ids[row] for row in rows]
            report = self.moving.add(ids, self.documents.rows[rows])
            failed = {failure.id for failure in report.failed}
            self.tally.refused += len(failed)
            self.acknowledged.update(set(ids) - failed)
            waiting += [row for row in rows if self.documents.ids[row] in failed]
            time.sleep(PAUSE_SECONDS)

    def _search(self) -> None:
        for query in cycle(range(QUERIES)):
            for exact in (False, True):
                if self._stop.is_set():
                    return
                self._search_once(query, exact=exact)
            time.sleep(PAUSE_SECONDS)

    def _search_once(self, query: int, *, exact: bool) -> None:
        try:
            still = self.still.search(self.still_documents.queries[query], k=20, rerank=ALL if exact else 0)
            moving = self.moving.search(self.documents.queries[query], k=20, rerank=ALL if exact else 0)
        except ClusterError:
            self.tally.errors += 1
            return
        self.tally.searches += 2
        self.tally.partial += still.partial + moving.partial
        self._note(self.still_documents.judge(still, query, exact=exact))
        self._note(self.documents.judge(moving, query, exact=exact))
        if not still.partial:
            best = list(self.still_documents.reference[query, exact].values())[:20]
            scores = [hit.score for hit in still]
            if len(scores) != len(best) or not np.allclose(scores, best, rtol=0, atol=TOLERANCE):
                self._note([f"hits are missing and not flagged: {scores} instead of {best}"])

    def _note(self, wrong: list[str]) -> None:
        self.tally.wrong += len(wrong)
        self.tally.remarks += wrong[:3]
