"""What goes on while a cluster is hurt: one thread adds documents, one searches, and everything seen is judged."""

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
MOVING = 8_000  # all can be found by one search
DOCUMENTS_AT_ONCE = 10
PAUSE_SECONDS = 0.05
TOLERANCE = 2e-6  # of a cosine in the engine's float32
ALL = 10_000


@dataclass
class Tally:
    """What became of one fault, or of several of its kind.

    Attributes:
        times: how often the fault was made.
        acknowledged: documents that the cluster said it had.
        lost: those of them that were not found afterwards.
        wrong: hits with another score than in memory, and answers that lacked hits without saying so.
        searches: searches answered.
        partial: those that said that hits may be missing.
        errors: searches that ended with an error.
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
    """Ids and descriptors, and the score that each must have with each query.

    Args:
        prefix: of the ids.
        count: how many.
        seed: of the descriptors.
    """

    def __init__(self, prefix: str, count: int, *, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.queries = generator.standard_normal((QUERIES, 64)).astype(np.float32)
        self.rows: NDArray[np.float32] = generator.standard_normal((count, 64)).astype(np.float32)
        self.ids = [f"{prefix}{number}" for number in range(count)]

    @cached_property
    def reference(self) -> Mapping[tuple[int, bool], Mapping[str, float]]:
        """(query, whether re-ranked) → id → score, in the order of the scores."""
        memory = dt.MemoryIndex(ENCODER)
        memory.add(self.ids, self.rows)
        return {
            (query, exact): {hit.id: hit.score for hit in memory.search(row, k=ALL, rerank=ALL if exact else 0)}
            for query, row in enumerate(self.queries)
            for exact in (False, True)
        }

    def judge(self, hits: Hits, query: int, *, exact: bool) -> list[str]:
        """Says of each hit whose score is another than in memory."""
        scores = self.reference[query, exact]
        return [
            f"{hit.id} scored {hit.score}, not {scores.get(hit.id)}"
            for hit in hits
            if abs(hit.score - scores.get(hit.id, -9)) > (TOLERANCE if exact else 0)
        ]


class Workload:
    """Two indices of three shards with a replica each: one that stands still and is searched, one that is filled.

    Args:
        client: of the cluster.
        name: of the indices.
        seed: of the documents.
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
            # A node that comes back may be found without its copies at first; others then wait a minute to make new
            # ones, in which nothing happens that a test could see.
            soon = {"index.unassigned.node_left.delayed_timeout": "2s"}
            index.cluster.request("PUT", f"/{index.name}/_settings", body=soon)
        added = self.still.add(self.still_documents.ids, self.still_documents.rows)
        assert added.succeeded == STILL, added.failed[:3]
        self.still.refresh()
        _ = self.still_documents.reference, self.documents.reference  # made now, and not while searches are timed
        self.acknowledged: set[str] = set()
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds and searches until the block ends."""
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
        """Until so many more documents are acknowledged: the cluster takes writes again."""
        wanted = min(MOVING, len(self.acknowledged) + documents)
        deadline = time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {wanted} documents acknowledged after {seconds} s")
            time.sleep(0.05)

    def verdict(self) -> Tally:
        """Looks for every acknowledged document, in the whole cluster that is well again."""
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
