"""A later document replaces an earlier one with the same id, whatever the cluster delays or rejects."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterUnreachable
from deepterms.index import ingest
from deepterms.index.writer import IndexWriter
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.schema.layouts import find_layout

ENCODER = dt.DeepPermutation(4, top_k=2)
ROW = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
CONCRETE = "deepterms-words-v1-i-000001"
Stream = list[list[tuple[int, int]]]


class Slow(Cluster):
    """A cluster that applies each request after a random delay, and rejects or loses some.

    Args:
        seed: of the delays and rejections.
        refuse: ids that are rejected for good.
        requests: how many bulk requests succeed before the client is interrupted.
    """

    def __init__(self, seed: int, *, refuse: frozenset[str] = frozenset(), requests: int = 1_000_000) -> None:
        super().__init__(OpenSearch(), backpressure=Backpressure(random=lambda: 0, sleep=lambda seconds: None))
        self.content: dict[str, int] = {}
        self.refuse = refuse
        self._random = Random(seed)
        self._left = requests
        self._lock = threading.Lock()

    def request(self, method: str, path: str, *, body: Any = None, params: Any = None) -> Any:
        if method == "GET":
            return {CONCRETE: {"settings": {"index": {"uuid": "u"}}}}
        with self._lock:
            delay, lost = self._random.choice((0, 0.001, 0.003)), self._random.random() < 0.1
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        time.sleep(delay)
        lines = [json.loads(line) for line in body.splitlines()]
        with self._lock:
            items = [
                self._write(action["index"]["_id"], source)
                for action, source in zip(lines[::2], lines[1::2], strict=True)
            ]
        if lost:
            raise ClusterUnreachable("the response was lost")
        return {"items": items}

    def _write(self, identifier: str, source: dict[str, Any]) -> dict[str, Any]:
        common = {"_id": identifier, "_index": CONCRETE}
        if identifier in self.refuse:
            return {"index": {**common, "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}}}
        if self._random.random() < 0.3:
            return {"index": {**common, "status": 429, "error": {"type": "rejected", "reason": "busy"}}}
        self.content[identifier] = source["metadata"]["version"]
        return {"index": {**common, "status": 201}}


def writer(cluster: Cluster) -> IndexWriter:
    spec = IndexSpec(ENCODER, find_layout("words"), None)
    return IndexWriter(cluster, IndexState("i", spec, uuids={CONCRETE: "u"}))


def batches(stream: Stream) -> list[Any]:
    return [
        ([f"d{number}" for number, _ in batch], np.tile(ROW, (len(batch), 1)), [{"version": v} for _, v in batch])
        for batch in stream
    ]


def find_last(stream: Stream, *, refuse: frozenset[str] = frozenset()) -> dict[str, int]:
    """The content after one document after the other."""
    written = {f"d{number}": version for batch in stream for number, version in batch}
    return {identifier: version for identifier, version in written.items() if identifier not in refuse}


ids = st.integers(0, 6)
streams = st.lists(
    st.lists(st.tuples(ids, st.integers(0, 9)), min_size=1, max_size=5, unique_by=lambda pair: pair[0]),
    min_size=1,
    max_size=12,
)


@given(streams, st.integers(1, 4), st.integers(0, 2**16))
@settings(max_examples=30)
def test_the_content_is_that_of_one_document_after_the_other(stream: Stream, threads: int, seed: int) -> None:
    cluster = Slow(seed)
    report = writer(cluster).add_batches(batches(stream), threads=threads)
    assert (report.failed, cluster.content) == ((), find_last(stream))


@given(streams, streams, st.integers(0, 2**16), st.lists(st.integers(0, 8), max_size=3), st.integers(0, 11))
@settings(max_examples=40)
def test_a_resumed_stream_ends_with_the_same_content(
    stream: Stream, other: Stream, seed: int, interruptions: list[int], changed: int
) -> None:
    """A stream is interrupted several times, one of its batches changes, and then it runs to the end."""
    cluster = Slow(seed, refuse=frozenset({"d3"}))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "DOCUMENTS_PER_BULK", 2)
        path = Path(folder) / "checkpoint"
        for requests in interruptions:
            cluster._left = requests
            with suppress(KeyboardInterrupt):
                writer(cluster).add_batches(batches(stream), checkpoint=path)
            if changed < len(stream):  # fewer documents are rejected, or others: earlier pieces are sent again
                cluster.refuse = frozenset()
                stream = [*stream[:changed], other[0], *stream[changed + 1 :]]
        cluster._left = 1_000_000
        ran = cluster.content
        writer(cluster).add_batches(batches(stream), checkpoint=path)
        wanted = find_last(stream, refuse=cluster.refuse)
        assert {identifier: ran[identifier] for identifier in wanted} == wanted
        before = dict(ran)
        again = writer(cluster).add_batches(batches(stream), checkpoint=path)
        assert cluster.content == before
        if not cluster.refuse:
            assert again.skipped == again.succeeded


def test_a_piece_sent_again_brings_the_later_ones_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch fails once; the second one, with a later version, was recorded and is sent again after it."""
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", 2)
    cluster = Slow(0, refuse=frozenset({"d1"}))
    stream: Stream = [[(0, 1), (1, 1)], [(0, 2), (2, 2)], [(4, 4), (5, 5)]]
    path = tmp_path / "checkpoint"
    for skipped in (0, 2):  # the third batch shares no id with the first one
        assert writer(cluster).add_batches(batches(stream), checkpoint=path).skipped == skipped
        assert cluster.content["d0"] == 2
    cluster.refuse = frozenset()
    assert writer(cluster).add_batches(batches(stream), checkpoint=path).skipped == 2
    assert cluster.content == find_last(stream)
    assert writer(cluster).add_batches(batches(stream), checkpoint=path).skipped == 6


def test_content_that_recurs_is_written_again(tmp_path: Path) -> None:
    """The third batch equals the first one, and is the last word."""
    cluster = Slow(0)
    stream: Stream = [[(0, 1)], [(0, 2)], [(0, 1)]]
    for skipped in (0, 3):
        report = writer(cluster).add_batches(batches(stream), checkpoint=tmp_path / "checkpoint")
        assert (report.skipped, cluster.content) == (skipped, {"d0": 1})
