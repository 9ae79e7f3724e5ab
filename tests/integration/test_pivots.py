"""Tests of pivot indices on real clusters: stored and deleted with their index, and never used incomplete."""

from __future__ import annotations

import base64
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.deployment import PRODUCT
from deepterms.errors import (
    ClusterError,
    ClusterUnreachable,
    IndexAlreadyExists,
    IndexNotFound,
    PivotsUnavailable,
    RequestRejected,
)
from deepterms.storage import encoder_loading, pivot_index
from deepterms.storage.pivot_cache import PivotCache
from deepterms.storage.pivot_index import find_missing_chunks, find_owner, name_pivot_index

DIMENSIONS = 12
ROWS = 10  # per chunk, so that 64 pivots have seven chunks


def features(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def encoder(seed: int = 1, **options: Any) -> dt.PivotPermutation:
    chosen: dict[str, Any] = {"top_k": 4, "query_top_k": 16, **options}
    return dt.PivotPermutation(dt.Pivots(features(64, seed)), **chosen)


@pytest.fixture
def client(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pivot_index, "count_rows_per_chunk", lambda dimensions: ROWS)
    monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path / "cache"))
    dt.deploy(cluster)
    return cluster


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Behave like another machine from then on: nothing in memory, and no files."""
    machines = 0

    def move() -> None:
        nonlocal machines
        machines += 1
        gc.collect()
        monkeypatch.setattr(encoder_loading, "_IN_USE", {})
        monkeypatch.setattr(PivotCache, "_held", {})
        monkeypatch.setenv("DEEPTERMS_CACHE", str(tmp_path / f"machine-{machines}"))

    return move


def filled(client: Any, name: str, *, using: dt.Encoder | None = None, **options: Any) -> dt.SurrogateIndex:
    chosen: dict[str, Any] = {"layout": "codewords", "replicas": 0, **options}
    index = dt.SurrogateIndex.create(client, name, encoder=using or encoder(), **chosen)
    assert index.add([f"d{n}" for n in range(80)], features(80)).failed == ()
    index.refresh()
    return index


def hits(index: dt.SurrogateIndex) -> list[list[dt.Hit]]:
    return [list(found) for found in index.search_many(features(5, seed=9), k=10, rerank=0)]


def list_pivot_indices(client: Any, name: str) -> list[str]:
    """List the pivot indices of a name."""
    answer = Cluster(client).request("GET", "/deepterms-pivots-*/_mapping")
    return sorted(index for index in answer if (find_owner(index) or "").rpartition("-")[0].endswith(f"-{name}"))


def own(index: dt.SurrogateIndex) -> str:
    (concrete,) = index.concrete
    return name_pivot_index(concrete, index.encoder.spec()["pivots"]["checksum"])


OPEN = """
import sys
import numpy as np, opensearchpy, elasticsearch
import deepterms as dt
library, url, name, query = sys.argv[1:]
client = (opensearchpy.OpenSearch if library == "opensearch" else elasticsearch.Elasticsearch)(url)
index = dt.SurrogateIndex.open(client, name)
assert index.add(["new"], np.load(query)[:1]).failed == ()
index.refresh()
print(index.encoder.pivots.checksum, *index.search(np.load(query)[0], k=5, rerank=0).ids)
client.close()
"""


def test_another_machine_finds_the_same(client: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    index = filled(client, unique_name)
    np.save(tmp_path / "query.npy", features(1, seed=9))
    command = [sys.executable, "-c", OPEN, Cluster(client).engine.name, url, unique_name, str(tmp_path / "query.npy")]
    cache = tmp_path / "there"
    outputs = []
    for _ in range(2):  # first from the cluster, then from its cache file
        done = subprocess.run(
            command,
            env={**os.environ, "DEEPTERMS_CACHE": str(cache)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.split())
    checksum = index.encoder.spec()["pivots"]["checksum"]
    index.refresh()
    assert outputs == [[checksum, *index.search(features(1, seed=9)[0], k=5, rerank=0).ids]] * 2
    assert outputs[0][1] == "new"
    assert [path.name for path in (cache / "pivots").iterdir()] == [f"{checksum}.f16"]


def test_the_pivots_are_read_once(
    client: Any, unique_name: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hits(filled(client, unique_name))
    elsewhere()
    asked: list[str] = []
    request = Cluster.request

    def noted(self: Cluster, method: str, path: str, **options: Any) -> Any:
        asked.append(path)
        return request(self, method, path, **options)

    monkeypatch.setattr(Cluster, "request", noted)
    index = dt.SurrogateIndex.open(client, unique_name)
    assert sum("deepterms-pivots" in path for path in asked) == 2  # the metadata, and seven chunks in one request
    asked.clear()
    assert hits(index) == expected
    again = dt.SurrogateIndex.open(client, unique_name)
    assert again.encoder is index.encoder
    assert not index.reopen()
    assert index.encoder is again.encoder
    assert not any("deepterms-pivots" in path for path in asked)


def test_encoders_of_pivot_pairs_are_stored_too(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    using = dt.PivotPairs(encoder().pivots, top_k=4, query_top_k=8)
    expected = hits(filled(client, unique_name, using=using))
    elsewhere()
    index = dt.SurrogateIndex.open(client, unique_name)
    assert index.encoder is not using
    assert index.encoder == using
    assert hits(index) == expected


def test_the_pivot_index_matches_its_metadata(client: Any, unique_name: str) -> None:
    index = filled(client, unique_name)
    (held,) = list_pivot_indices(client, unique_name)
    assert held == own(index)
    request = Cluster(client).request
    meta = request("GET", f"/{held}/_mapping")[held]["mappings"]["_meta"][PRODUCT]
    spec = index.encoder.spec()["pivots"]
    expected = {"companion": "pivots", "version": 1, "pivots": spec, "chunks": 7, "rows_per_chunk": ROWS, "reach": None}
    assert meta == expected
    settings = request("GET", f"/{held}/_settings")[held]["settings"]["index"]
    assert (settings["auto_expand_replicas"], settings["codec"]) == ("0-1", "best_compression")
    last = request("GET", f"/{held}/_doc/6")["_source"]
    assert last["first_row"] == 60
    assert isinstance(index.encoder, dt.PivotPermutation)
    assert base64.b64decode(last["features"]) == index.encoder.pivots.features[60:].tobytes()


def test_pivots_are_dropped_only_with_their_index(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    """Two names with the same pivots have separate pivot indices."""
    other = f"{unique_name}-codewords-v1-x"  # a careless pattern for the first name would match it
    first, second = filled(client, unique_name), filled(client, other)
    assert len(list_pivot_indices(client, unique_name)) == len(list_pivot_indices(client, other)) == 1
    expected = hits(second)
    first.drop()
    assert list_pivot_indices(client, unique_name) == []
    elsewhere()
    assert hits(dt.SurrogateIndex.open(client, other)) == expected
    second.drop()
    assert list_pivot_indices(client, other) == []
    with pytest.raises(IndexNotFound):
        dt.SurrogateIndex.open(client, other)


def test_an_interrupted_drop_can_be_repeated(
    client: Any, unique_name: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = filled(client, unique_name)
    (concrete,) = index.concrete
    request = Cluster.request

    def cut(self: Cluster, method: str, path: str, **options: Any) -> Any:
        if (method, path) == ("DELETE", f"/{concrete}"):
            raise ClusterUnreachable("cut")
        return request(self, method, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Cluster, "request", cut)
        with pytest.raises(ClusterUnreachable):
            index.drop()
    assert len(hits(index)[0]) == 10  # clients with the pivots in memory can still search
    with pytest.raises(IndexAlreadyExists):
        filled(client, unique_name)
    index.drop()
    assert not Cluster(client).request("HEAD", f"/{concrete}")
    filled(client, unique_name).drop()


def test_an_interrupted_writer_blocks_nobody(
    client: Any, unique_name: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt creation at each request; the next client that creates the index completes the pivots."""
    request, bulk = Cluster.request, Cluster.bulk
    monkeypatch.setattr(pivot_index, "CHUNKS_PER_REQUEST", 3)
    left: int | None = None
    outcomes = []

    def step() -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                raise ClusterUnreachable("cut")

    def cut(self: Cluster, method: str, path: str, **options: Any) -> Any:
        if not path.endswith("/_bulk"):  # which is retried
            step()
        return request(self, method, path, **options)

    def cut_bulk(self: Cluster, *arguments: Any, **options: Any) -> Any:
        step()
        return bulk(self, *arguments, **options)

    monkeypatch.setattr(Cluster, "request", cut)
    monkeypatch.setattr(Cluster, "bulk", cut_bulk)
    for steps in (5, 6, 8, 10, 40):  # before and after creating it, between chunks, and before creating the index
        left = steps
        try:
            dt.SurrogateIndex.create(client, unique_name, encoder=encoder(), layout="codewords", replicas=0)
            break
        except ClusterUnreachable:
            left = None
            outcomes.append(list_pivot_indices(client, unique_name))
            with pytest.raises(IndexNotFound):  # the index does not exist before its pivots are complete
                dt.SurrogateIndex.open(client, unique_name)
    left = None
    assert len(outcomes) == 4
    assert [] in outcomes
    assert outcomes[-1] != []
    index = dt.SurrogateIndex.open(client, unique_name)
    (concrete,) = index.concrete
    assert find_missing_chunks(index.cluster, concrete, index.encoder.spec()["pivots"]) == []
    elsewhere()
    assert dt.SurrogateIndex.open(client, unique_name).encoder == encoder()


def test_a_rejected_index_leaves_no_pivots(client: Any, unique_name: str) -> None:
    with pytest.raises(RequestRejected):
        filled(client, unique_name, shards=-1)
    assert list_pivot_indices(client, unique_name) == []


def test_two_concurrent_creators(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    """One wins, with its pivots; the other gets an error, whether or not its pivots are the same."""

    def create(seed: int) -> dt.SurrogateIndex | ClusterError:
        try:
            return dt.SurrogateIndex.create(client, unique_name, encoder=encoder(seed), layout="codewords", replicas=0)
        except ClusterError as error:
            return error

    for seeds in ([1, 1], [1, 2]):
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(create, seeds))
        (won,) = [index for index in made if isinstance(index, dt.SurrogateIndex)]
        expected = won.encoder
        elsewhere()
        opened = dt.SurrogateIndex.open(client, unique_name)
        assert opened.encoder == expected
        assert list_pivot_indices(client, unique_name) == [own(opened)]
        opened.drop()


@pytest.mark.parametrize("damage", ["missing chunk", "no base64", "short", "another number", "no index", "no meta"])
def test_damaged_pivots_give_a_clear_error(
    client: Any, unique_name: str, elsewhere: Callable[[], None], damage: str, tmp_path: Path
) -> None:
    index = filled(client, unique_name)
    expected, held, request = hits(index), own(index), Cluster(client).request
    source = request("GET", f"/{held}/_doc/2")["_source"]
    content = bytearray(base64.b64decode(source["features"]))
    content[4] ^= 1
    elsewhere()
    kept = dt.SurrogateIndex.open(client, unique_name)  # caches an intact copy
    del kept
    if damage == "missing chunk":
        request("DELETE", f"/{held}/_doc/2")
        message = "chunk 2 of 7 is missing"
    elif damage == "no index":
        request("DELETE", f"/{held}")
        message = f"there is no index {held}"
    elif damage == "no meta":
        request("PUT", f"/{held}/_mapping", body={"_meta": {}})
        message = f"{held} has invalid metadata"
    else:
        text = {"no base64": "AAA", "short": "AAAA", "another number": base64.b64encode(content).decode()}[damage]
        if damage == "no base64" and Cluster(client).engine.name == "elasticsearch":
            text = "AAA="  # it rejects text without padding
        request("PUT", f"/{held}/_doc/2", body={**source, "features": text})
        message = "their checksum is" if damage == "another number" else "chunk 2 "
    # release the first encoder
    index.state = replace(index.state, spec=replace(index.spec, encoder=encoder(2)))
    opened = dt.SurrogateIndex.open(client, unique_name)
    assert hits(opened) == expected
    elsewhere()
    with pytest.raises(PivotsUnavailable, match=message) as error:
        dt.SurrogateIndex.open(client, unique_name)
    assert "--repivot COUNT" in str(error.value)
    # With the encoder, the index can still be used and dropped.
    mine = dt.SurrogateIndex.open(client, unique_name, encoder=encoder())
    assert hits(mine) == expected
    mine.drop()
    assert list_pivot_indices(client, unique_name) == []


def test_without_the_template_nothing_is_created(bare: Any, unique_name: str) -> None:
    dt.deploy(bare)
    Cluster(bare).request("DELETE", "/_index_template/deepterms-pivots-v1")
    with pytest.raises(ClusterError, match=r"deepterms-pivots-v1 is not in the cluster.*deploy"):
        filled(bare, unique_name)
    assert list_pivot_indices(bare, unique_name) == []
    assert not Cluster(bare).request("HEAD", f"/deepterms-codewords-v1-{unique_name}-000001")


def test_an_index_created_by_a_late_request_is_replaced(client: Any, unique_name: str) -> None:
    """A late bulk request of an interrupted writer creates the deleted pivot index again, without metadata."""
    using = encoder()
    held = name_pivot_index(f"deepterms-codewords-v1-{unique_name}-000001", using.pivots.checksum)
    Cluster(client).request("PUT", f"/{held}/_doc/99", body={"first_row": 1, "features": "AAAA"})
    index = filled(client, unique_name, using=using)
    assert not Cluster(client).request("HEAD", f"/{held}/_doc/99")
    index.drop()
