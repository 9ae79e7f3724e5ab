"""A MemoryIndex that threads share: what a search sees was true at one moment, and nothing is corrupted."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.memory import memory_index, segments

WRITERS = 8
ROUNDS = 40


def features(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)


def repeat(call: Callable[[], object], *, until: threading.Event) -> int:
    done = 0
    while not until.is_set():
        call()
        done += 1
    return done


@pytest.mark.parametrize("segment", [64, 65_536])
def test_writers_and_readers_share_an_index(segment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_DOCUMENTS", segment)
    monkeypatch.setattr(memory_index, "SEGMENT_DOCUMENTS", segment)
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    queries, finished = features(4, seed=99), threading.Event()

    def write(writer: int) -> None:
        for step in range(ROUNDS):
            ids = [f"{writer}-{number}" for number in range(step % 7 + 1)]
            assert index.add(ids, features(len(ids), seed=writer * 1000 + step), [{"n": step}] * len(ids)).failed == ()
            index.update_metadata(ids[:1], [{"n": -step}])
            index.delete(ids[3:])

    def read() -> None:
        hits = index.search(queries[0], k=50)
        assert len(set(hits.ids)) == len(hits)  # no document in an old and a new version
        index.search(queries[1], k=5, filter={"range": {"metadata.n": {"gte": 3}}})
        index.stats()
        assert index.reconcile([]).missing == ()
        if (document := index.get("0-0")) is not None:
            assert document.terms

    with ThreadPoolExecutor(WRITERS + 2) as threads:
        reading = [threads.submit(repeat, read, until=finished) for _ in range(2)]
        for writing in [threads.submit(write, writer) for writer in range(WRITERS)]:
            writing.result()
        finished.set()
        assert all(reader.result() > 0 for reader in reading)

    alone = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    for writer in range(WRITERS):
        for step in range(ROUNDS):
            ids = [f"{writer}-{number}" for number in range(step % 7 + 1)]
            alone.add(ids, features(len(ids), seed=writer * 1000 + step), [{"n": step}] * len(ids))
            alone.update_metadata(ids[:1], [{"n": -step}])
            alone.delete(ids[3:])
    assert index.count() == alone.count()
    for query in queries:
        assert [*index.search(query, k=30)] == [*alone.search(query, k=30)]


def test_a_replaced_document_is_never_missing() -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    rows = features(2)
    index.add(["a", "b"], rows)
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(lambda: [index.add(["a"], rows[:1]) for _ in range(1_000)])
        while not writing.done():
            assert index.search(rows[0], k=1).ids == ["a"]
        assert len(writing.result()) == 1_000


def test_an_index_can_be_copied_and_pickled() -> None:
    index = dt.MemoryIndex(dt.DeepPermutation(32, top_k=8))
    rows = features(3)
    index.add(["a", "b", "c"], rows)
    for copied in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        copied.delete(["a"])
        assert copied.search(rows[1], k=1).ids == ["b"]
        assert index.search(rows[0], k=1).ids == ["a"]
