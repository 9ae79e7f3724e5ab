"""Reads of an index that lacks a shard, or is closed: whole, flagged, or an error; never silently less."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms import migration
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.patience import Patience
from deepterms.doctor import examine
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index import ingest
from deepterms.index.export import export_features
from deepterms.web.facets import count_facets
from tests.clusters.trio import wait_until

ENCODER = dt.DeepPermutation(16, top_k=4)
ROWS = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
IDS = [f"d{row}" for row in range(len(ROWS))]


@pytest.fixture
def index(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    made = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, shards=3)
    assert not made.add(IDS, ROWS, [{"year": 2000 + row % 3} for row in range(len(ROWS))]).failed
    made.refresh()
    return made


@pytest.fixture
def lacking(index: dt.SurrogateIndex) -> Iterator[dt.SurrogateIndex]:
    """An index of three shards, restored on a node that may hold two of them: the engines never give up the others."""
    (concrete,) = index.concrete
    own, repository = index.cluster, f"/_snapshot/{index.name}"
    own.request("PUT", repository, body={"type": "fs", "settings": {"location": f"/tmp/snapshots/{index.name}"}})
    snapshot = {"indices": concrete, "include_global_state": False}
    own.request("PUT", f"{repository}/whole", body=snapshot, params={"wait_for_completion": True})
    own.request("DELETE", f"/{concrete}")
    limited = {**snapshot, "index_settings": {"index.routing.allocation.total_shards_per_node": 2}}
    own.request("POST", f"{repository}/whole/_restore", body=limited)
    health = f"/_cluster/health/{concrete}"
    wait_until(lambda: own.request("GET", health)["active_primary_shards"] == 2, "not two shards started", seconds=30)
    yield index
    index.drop()
    own.request("DELETE", f"{repository}/whole")
    own.request("DELETE", repository)


@pytest.fixture
def closed(index: dt.SurrogateIndex) -> dt.SurrogateIndex:
    (concrete,) = index.concrete
    index.cluster.request("POST", f"/{concrete}/_close")
    return index


def test_documents_of_a_missing_shard_are_not_reported_as_absent(lacking: dt.SurrogateIndex) -> None:
    found, unknown = [], []
    for identifier in IDS:
        try:
            document = lacking.get(identifier)
        except ClusterError as error:
            assert "did not answer" in str(error)
            unknown.append(identifier)
            continue
        assert document is not None
        found.append(identifier)
    assert found
    assert unknown
    for read in (lambda: lacking.search_by_id(unknown[0]), lambda: lacking.explain(unknown[0], ROWS[0])):
        with pytest.raises(ClusterError, match="did not answer"):
            read()


def test_reads_of_an_index_that_lacks_a_shard_are_flagged_or_fail(
    lacking: dt.SurrogateIndex, cluster: Any, tmp_path: Any
) -> None:
    assert lacking.search(ROWS[0], k=60).partial
    assert lacking.search(ROWS[0], k=60, filter={"match_all": {}}).partial
    assert all(hits.partial for hits in lacking.search_many(ROWS[:2], k=60))
    reads: list[Callable[[], object]] = [
        lacking.count,
        lambda: list(lacking.search_all(ROWS[0])),
        lambda: lacking.reconcile(IDS),
        lacking.verify,
        lacking.stats,
        lambda: count_facets(lacking, {}),
        lambda: export_features(lacking, tmp_path / "store"),
        lambda: lacking.delete_by_filter({"match_all": {}}),
        lambda: migration.migrate(cluster, lacking.name, shards=2),
        lambda: migration.repivoting.sample_vectors(
            lacking.cluster, lacking.name, 10, dimensions=16, vector_type="float32"
        ),
    ]
    for number, read in enumerate(reads):
        with pytest.raises(ClusterError):
            pytest.fail(f"read {number} returned {read()}")
    assert any(finding.level == "red" for finding in examine(cluster, lacking.name) if finding.subject == lacking.name)


def test_documents_for_a_missing_shard_are_waited_for_once(
    lacking: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten requests wait no longer than one: the engine waits two seconds for the first of them."""
    _be_patient(monkeypatch, 2)
    started = time.monotonic()
    report = lacking.add(IDS, ROWS)
    assert time.monotonic() - started < 30  # two seconds for the first request, one for each later one
    assert 0 < report.succeeded < len(IDS)
    assert len(report.failed) == len(IDS) - report.succeeded
    assert all("unavailable_shards" in failure.reason for failure in report.failed)
    assert sum("waiting up to 2 s for a primary of shard" in record.getMessage() for record in caplog.records) == 1


def test_a_write_block_that_stays_is_waited_for_once(
    index: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _be_patient(monkeypatch, 3)
    (concrete,) = index.concrete
    index.cluster.request("PUT", f"/{concrete}/_block/write")
    writes: list[Callable[[], dt.WriteReport]] = [lambda: index.add(IDS, ROWS), lambda: index.delete(IDS)]
    for write in writes:
        caplog.clear()
        started = time.monotonic()
        report = write()
        assert 3 < time.monotonic() - started < 15
        assert len(report.failed) == len(IDS)
        messages = [record.getMessage() for record in caplog.records if record.name == "deepterms"]
        assert messages.count(f"waiting up to 3 s for the write block of {concrete} to be removed") == 1
    index.cluster.request("PUT", f"/{concrete}/_settings", body={"index.blocks.write": None})
    assert not index.add(IDS, ROWS).failed


def _be_patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make calls patient for some seconds, and send ten requests for the documents."""
    defaults: Any = Patience.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "seconds", seconds)
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", 6)


def test_calls_on_a_closed_index_say_how_to_open_it(closed: dt.SurrogateIndex, cluster: Any, tmp_path: Any) -> None:
    (concrete,) = closed.concrete
    message = f"{concrete} is closed.* POST /{concrete}/_open"
    calls: list[Callable[[], object]] = [
        lambda: closed.search(ROWS[0]),
        lambda: list(closed.search_all(ROWS[0])),
        lambda: closed.search_by_id(IDS[0]),
        lambda: closed.get(IDS[0]),
        lambda: closed.explain(IDS[0], ROWS[0]),
        closed.count,
        closed.verify,
        closed.stats,
        closed.refresh,
        lambda: closed.reconcile(IDS),
        lambda: closed.delete_by_filter({"match_all": {}}),
        lambda: export_features(closed, tmp_path / "store"),
        lambda: count_facets(closed, {}),
        lambda: migration.migrate(cluster, closed.name, shards=2),
    ]
    for call in calls:
        with pytest.raises(ClusterError, match=message):
            call()
    reports = [closed.add(["new"], ROWS[:1]), closed.delete(IDS[:1]), closed.update_metadata(IDS[:1], [{}])]
    for reason in [*(report.failed[0].reason for report in reports), closed.search_many(ROWS[:1])[0].error]:
        assert f"open it with POST /{concrete}/_open" in reason
    (finding,) = (found for found in examine(cluster, closed.name) if found.subject == closed.name)
    assert (finding.level, finding.advice) == ("red", f"run POST /{concrete}/_open")


def test_what_belongs_to_a_closed_index_is_no_orphan(cluster: Any, unique_name: str) -> None:
    """An older index that was closed to save memory keeps its pivots, and is dropped with the others."""
    dt.deploy(cluster)
    pivots = dt.PivotPermutation(dt.sample_pivots(ROWS, 16, seed=0), top_k=3, query_top_k=8)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=pivots, replicas=0)
    assert not index.add(IDS, ROWS).failed
    (old,) = index.concrete
    migration.migrate(cluster, unique_name, encoder=ENCODER, to=migration.plan.parse_layout("words"))
    own = Cluster(cluster)
    own.request("POST", f"/{old}/_close")
    assert [found.subject for found in examine(cluster, unique_name) if found.level != "green"] == []
    with pytest.raises(ClusterError, match=f"{old} is closed"):
        migration.roll_back(cluster, unique_name)
    own.request("POST", f"/{old}/_open")
    migration.roll_back(cluster, unique_name)
    index.refresh()
    assert index.reconcile(IDS).equal
    own.request("POST", f"/{old}/_close")
    index.drop()
    patterns = {"expand_wildcards": "open,closed"}
    assert own.request("GET", f"/deepterms-*{unique_name}*", params=patterns) == {}
    assert not [held for held in own.request("GET", "/_ingest/pipeline") if f"-{unique_name}-" in held]


def test_the_doctor_names_what_an_interruption_left(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    own, (concrete,) = index.cluster, index.concrete
    settings = f"/{concrete}/_settings"
    own.request("PUT", settings, body={"index.default_pipeline": None})
    own.request("DELETE", f"/_ingest/pipeline/{concrete}")
    own.request("PUT", settings, body={"index.default_pipeline": concrete})
    missing = next(found for found in examine(cluster, unique_name) if found.level == "red")
    assert (missing.subject, f"its pipeline {concrete} is missing" in missing.text) == (unique_name, True)
    assert index.add(IDS, ROWS).succeeded == 0
    again = dt.SurrogateIndex.open_or_create(cluster, unique_name, encoder=ENCODER)
    assert again.add(IDS, ROWS).succeeded == len(IDS)
    own.request("DELETE", f"/{concrete}")
    left = next(found for found in examine(cluster) if found.subject == "pipelines" and unique_name in found.text)
    assert (left.level, unique_name in left.text) == ("yellow", True)
    dt.SurrogateIndex.drop_name(cluster, unique_name)
    assert not [found for found in examine(cluster) if found.subject == "pipelines" and unique_name in found.text]
    with pytest.raises(InvalidInput):
        dt.SurrogateIndex.drop_name(cluster, "*")
