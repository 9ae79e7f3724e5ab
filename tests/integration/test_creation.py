"""Several clients create one index at the same time; all of them get the same index, whole."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, EncoderMismatch, IndexAlreadyExists, IndexNotFound
from deepterms.index import creation

ENCODER = dt.DeepPermutation(32, top_k=8)
ROWS = np.random.default_rng(0).standard_normal((10, 32)).astype(np.float32)
WORKERS = 10
ROUNDS = 3


def pivots() -> dt.PivotPermutation:
    rows = np.random.default_rng(1).standard_normal((200, 32)).astype(np.float32)
    return dt.PivotPermutation(dt.sample_pivots(rows, 64, seed=0), top_k=4)


ENCODERS: dict[str, Callable[[], Any]] = {"components": lambda: ENCODER, "pivots": pivots}


def connect(engine: str, url: str) -> Any:
    return OpenSearch([url], timeout=60) if engine == "opensearch" else Elasticsearch(url, request_timeout=60)


def work(engine: str, url: str, name: str, encoder: str, start: Any, told: Any, worker: int) -> None:
    """Open or create, and add at once; runs in a separate process."""
    client = connect(engine, url)
    start.wait()
    try:
        index = dt.SurrogateIndex.open_or_create(client, name, encoder=ENCODERS[encoder](), replicas=0)
        report = index.add([f"{worker}-{row}" for row in range(len(ROWS))], ROWS)
        told.put("" if not report.failed else report.failed[0].reason)
    except BaseException as error:
        told.put(repr(error))


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_ten_processes_open_or_create_one_index(cluster: Any, url: str, unique_name: str, encoder: str) -> None:
    dt.deploy(cluster)
    context = multiprocessing.get_context("fork")
    for _ in range(ROUNDS):
        start, told = context.Barrier(WORKERS), context.SimpleQueue()
        engine = "elasticsearch" if isinstance(cluster, Elasticsearch) else "opensearch"
        workers = [
            context.Process(target=work, args=(engine, url, unique_name, encoder, start, told, number))
            for number in range(WORKERS)
        ]
        for process in workers:
            process.start()
        assert [told.get() for _ in workers] == [""] * WORKERS
        for process in workers:
            process.join()
        index = dt.SurrogateIndex.open(cluster, unique_name)
        index.refresh()
        assert index.reconcile(f"{number}-{row}" for number in range(WORKERS) for row in range(len(ROWS))).equal
        assert len(index.search(ROWS[0], k=10, rerank=0)) == 10
        index.drop()


def test_of_two_creators_with_other_options_one_wins(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    for _ in range(ROUNDS):
        start = Barrier(6)

        def create(layout: str, start: Barrier = start) -> str:
            start.wait()
            try:
                index = dt.SurrogateIndex.open_or_create(
                    cluster, unique_name, encoder=ENCODER, layout=layout, replicas=0
                )
            except IndexAlreadyExists as error:
                return str(error)
            assert not index.add(["a"], ROWS[:1]).failed
            return f"created {index.layout.name}"

        with ThreadPoolExecutor(6) as pool:
            got = list(pool.map(create, ["words", "rank_features"] * 3))
        index = dt.SurrogateIndex.open(cluster, unique_name)
        other = {"words": "rank_features", "rank_features": "words"}[index.layout.name]
        assert sorted(text[:7] for text in got) == ["created"] * 3 + ["the ind"] * 3
        for text in got:
            assert text == f"created {index.layout.name}" or f"layout is '{index.layout.name}', not '{other}'" in text
        index.drop()


def test_an_existing_index_must_be_the_one_asked_for(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    first = dt.SurrogateIndex.open_or_create(cluster, unique_name, encoder=ENCODER, replicas=0, extractor={"a": 1})
    open_or_create = dt.SurrogateIndex.open_or_create
    assert open_or_create(cluster, unique_name, encoder=ENCODER).concrete == first.concrete
    assert open_or_create(cluster, unique_name, spec=first.spec).concrete == first.concrete
    with pytest.raises(EncoderMismatch, match=r"was created with .*; got"):
        open_or_create(cluster, unique_name, encoder=dt.DeepPermutation(32, top_k=9))
    with pytest.raises(IndexAlreadyExists, match=r"rerank is None, not 7; vectors is 'float32', not 'int8'"):
        open_or_create(cluster, unique_name, encoder=ENCODER, rerank=7, store_vectors="int8")
    with pytest.raises(IndexAlreadyExists, match=r"extractor is \{.a.: 1\}, not \{.a.: 2\}"):
        open_or_create(cluster, unique_name, encoder=ENCODER, extractor={"a": 2})
    assert open_or_create(cluster, unique_name, encoder="auto", features=ROWS).encoder == ENCODER


def test_auto_creates_once(cluster: Any, unique_name: str) -> None:
    """Every client would sample other pivots; all use those of the first."""
    dt.deploy(cluster)
    start = Barrier(4)

    def create(seed: int) -> Any:
        rows = np.random.default_rng(seed).standard_normal((300, 32)).astype(np.float32)
        start.wait()
        index = dt.SurrogateIndex.open_or_create(cluster, unique_name, encoder="auto", features=rows, replicas=0)
        assert not index.add([f"d{seed}"], ROWS[:1]).failed
        return index.encoder.spec()

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(create, range(4))
    assert all(other == first for other in others)
    index = dt.SurrogateIndex.open(cluster, unique_name)
    index.refresh()
    assert index.count() == 4
    index.drop()
    left = Cluster(cluster).request("GET", f"/deepterms-*-{unique_name}-*")
    assert left == {}


def test_an_index_without_its_name_is_not_overwritten(
    cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "CREATION_SECONDS", 0)
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    index.add(["a"], ROWS[:1])
    index.refresh()
    (concrete,) = index.concrete
    index.cluster.request("DELETE", f"/{concrete}/_alias/{unique_name}")
    for make in (dt.SurrogateIndex.create, dt.SurrogateIndex.open_or_create):
        with pytest.raises(ClusterError, match=rf"{concrete} contains documents, but no alias"):
            make(cluster, unique_name, encoder=ENCODER)
    dt.SurrogateIndex.drop_name(cluster, unique_name)
    with pytest.raises(IndexNotFound, match="nothing that one has left"):
        dt.SurrogateIndex.drop_name(cluster, unique_name)
