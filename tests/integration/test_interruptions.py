"""A client is killed before each of its requests in turn; one call repairs what it left, and no document is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms import migration
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, IndexNotFound
from deepterms.index import creation
from deepterms.migration.repivoting import repivot_encoder

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.standard_normal((40, 16)).astype(np.float32)
IDS = [f"d{row}" for row in range(len(ROWS))]
PIVOTS = dt.PivotPermutation(dt.sample_pivots(ROWS, 16, seed=0), top_k=3, query_top_k=8)
OTHERS = dt.PivotPermutation(dt.sample_pivots(ROWS, 12, seed=1), top_k=3, query_top_k=8)
LEASE_SECONDS = 1.5


class Killed(BaseException):
    """The process no longer exists; nothing that it would still do happens."""


class Kill:
    """Kills the client before its n-th request that changes something, and all that follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._request = Cluster.request

    def run(self, call: Callable[[], Any], *, before: int) -> bool:
        """Run a call until it is killed; False if it ended before."""
        left = before
        real = self._request

        def request(cluster: Cluster, method: str, path: str, **options: Any) -> Any:
            nonlocal left
            if left <= 0 or (left := left - _changes(method, path)) <= 0:
                raise Killed
            return real(cluster, method, path, **options)

        with self._patch.context() as patch:
            patch.setattr(Cluster, "request", request)
            try:
                call()
            except Killed:
                return True
        return False


def _changes(method: str, path: str) -> bool:
    """Whether a request changes the cluster; only these are counted, since all others leave the same behind."""
    reading = ("_search", "_count", "_mget", "_refresh", "_simulate", "_pit", "scroll", "point_in_time")
    return method in ("PUT", "DELETE", "POST") and not any(part in path for part in reading)


@pytest.fixture
def client(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(creation, "CREATION_SECONDS", 1)
    monkeypatch.setattr("threading.excepthook", lambda given: None)  # the lease's thread is killed too
    dt.deploy(cluster)
    return cluster


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Kill:
    return Kill(monkeypatch)


def points() -> Iterator[int]:
    yield from range(1, 200)


def left_of(client: Any, name: str) -> set[str]:
    """Every index and pipeline of a name."""
    cluster = Cluster(client)
    pipelines = cluster.request("GET", "/_ingest/pipeline")
    return {*cluster.request("GET", f"/deepterms-*{name}*"), *(held for held in pipelines if f"-{name}-" in held)}


def check_whole(client: Any, name: str, ids: list[str] = IDS) -> dt.SurrogateIndex:
    """Every document is there and found, and more can be written."""
    index = dt.SurrogateIndex.open(client, name)
    assert not index.add(["new"], ROWS[:1]).failed
    assert index.delete(["new"]).succeeded == 1
    index.refresh()
    assert index.reconcile(ids).equal
    assert [index.search(ROWS[row], k=1).ids for row in range(5)] == [[identifier] for identifier in ids[:5]]
    return index


def filled(client: Any, name: str, encoder: Any) -> dt.SurrogateIndex:
    index = dt.SurrogateIndex.create(client, name, encoder=encoder, replicas=0)
    assert not index.add(IDS, ROWS).failed
    index.refresh()
    return index


@pytest.mark.parametrize("repair", ["create", "open_or_create", "drop_name"])
def test_a_killed_creation(client: Any, unique_name: str, kill: Kill, repair: str) -> None:
    def create() -> dt.SurrogateIndex:
        return dt.SurrogateIndex.create(client, unique_name, encoder=PIVOTS, replicas=0)

    for point in points():
        killed = kill.run(create, before=point)
        if not killed:
            assert point > 4  # pivots, index, pipeline, alias
            break
        if repair == "drop_name":
            try:
                dt.SurrogateIndex.drop_name(client, unique_name)
            except IndexNotFound:
                assert point == 1
        else:
            make: Any = getattr(dt.SurrogateIndex, repair)
            index = make(client, unique_name, encoder=PIVOTS, replicas=0)
            assert not index.add(IDS, ROWS).failed
            check_whole(client, unique_name).drop()
        assert left_of(client, unique_name) == set()


def test_a_killed_drop(client: Any, unique_name: str, kill: Kill) -> None:
    """Until the last index is gone, it can be opened and is whole."""
    for point in points():
        index = filled(client, unique_name, PIVOTS)
        migration.migrate(client, unique_name, encoder=OTHERS)
        migration.migrate(client, unique_name, encoder=PIVOTS)
        if not kill.run(index.drop, before=point):
            assert point > 8  # three indices and pipelines, two pivot indices
            break
        try:
            check_whole(client, unique_name)
        except IndexNotFound:
            assert point > 6
        dt.SurrogateIndex.drop_name(client, unique_name)
        assert left_of(client, unique_name) == set()


def kill_and_repeat(
    client: Any, name: str, kill: Kill, start: Callable[[], object], call: Callable[[], object], *, requests: int
) -> None:
    """Kill a call at every point; it leaves an index that can be read, and repeating it repairs the rest."""
    for point in points():
        start()
        killed = kill.run(call, before=point)
        index = dt.SurrogateIndex.open(client, name)
        index.refresh()
        assert index.reconcile(IDS).equal
        if killed:
            call()
        check_whole(client, name).drop()
        lease = f"/deepterms-migration-{name}"
        if Cluster(client).request("HEAD", lease):  # killed just before it would have been released
            Cluster(client).request("DELETE", lease)
        assert left_of(client, name) == set()
        if not killed:
            assert point > requests
            break


def test_a_killed_migration(client: Any, unique_name: str, kill: Kill) -> None:
    def migrate() -> None:
        migration.migrate(client, unique_name, encoder=PIVOTS, drop=True, lease_seconds=LEASE_SECONDS)

    kill_and_repeat(client, unique_name, kill, lambda: filled(client, unique_name, OTHERS), migrate, requests=12)


def test_a_killed_rollback(client: Any, unique_name: str, kill: Kill) -> None:
    def start() -> None:
        filled(client, unique_name, OTHERS)
        migration.migrate(client, unique_name, encoder=PIVOTS)

    def roll_back() -> None:
        try:
            migration.roll_back(client, unique_name, lease_seconds=LEASE_SECONDS)
        except ClusterError as error:  # the killed call had done everything
            if "was not migrated" not in str(error):
                raise

    kill_and_repeat(client, unique_name, kill, start, roll_back, requests=8)


def test_a_killed_repivoting(client: Any, unique_name: str, kill: Kill) -> None:
    def repivot() -> None:
        encoder = repivot_encoder(client, unique_name, 8)
        migration.migrate(client, unique_name, encoder=encoder, drop=True, lease_seconds=LEASE_SECONDS)

    kill_and_repeat(client, unique_name, kill, lambda: filled(client, unique_name, PIVOTS), repivot, requests=12)
