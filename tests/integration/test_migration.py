"""Tests of migrations on real clusters: copied documents, concurrent writes and searches, and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, IndexNotFound, InvalidInput, MigrationFailed
from deepterms.migration import drop_old, migrate, parse_layout, roll_back
from deepterms.migration.lease import Lease
from deepterms.schema.layouts import LAYOUTS, find_layout

DIMENSIONS = 32
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=8)
VERSION_TWO = Path(__file__).parent / "version_two"


def features(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def filled(client: Any, name: str, *, count: int = 60, **options: Any) -> dt.SurrogateIndex:
    """Create an index in a layout of both engines, with documents d0, d1, and so on."""
    chosen: dict[str, Any] = {"encoder": ENCODER, "layout": "words", "shards": 2, **options}
    index = dt.SurrogateIndex.create(client, name, replicas=0, **chosen)
    metadata = [{"n": n, "path": f"/photos/{n}.jpg"} for n in range(count)]
    assert index.add([f"d{n}" for n in range(count)], features(count), metadata).failed == ()
    index.refresh()
    return index


def concrete(client: Any, name: str) -> str:
    (index,) = Cluster(client).request("GET", f"/_alias/{name}")
    return str(index)


def scores(index: dt.SurrogateIndex, feature: NDArray[np.float32], **options: Any) -> dict[str, Any]:
    return {hit.id: pytest.approx(hit.score, abs=1e-6) for hit in index.search(feature, k=200, **options)}


@pytest.fixture
def client(cluster: Any) -> Any:
    dt.deploy(cluster)
    return cluster


def test_every_layout_keeps_scores_vectors_and_metadata(client: Any, unique_name: str) -> None:
    engine = Cluster(client).engine
    first = filled(client, unique_name, encoder=replace(ENCODER, binary=True))
    query = features(1, seed=9)[0]
    plain, exact = scores(first, query, rerank=0), scores(first, query)
    assert len(plain) > 30
    layouts = [layout for layout in LAYOUTS if layout.runs_on(engine) and layout.name != "words"]
    seen: list[tuple[int, int]] = []
    for generation, layout in enumerate(layouts, start=2):
        report = migrate(client, unique_name, to=layout, on_progress=lambda *step: seen.append(step))
        assert report.new == concrete(client, unique_name) == layout.index_name(unique_name, generation=generation)
        assert (report.documents, report.copied, report.skipped, report.deleted) == (60, 60, 0, 0)
        assert report.scores >= 400
        assert seen[-1] == (60, 60)
        index = dt.SurrogateIndex.open(client, unique_name)
        assert (index.layout.name, index.encoder, index.stores_vectors) == (layout.name, first.encoder, True)
        assert scores(index, query, rerank=0) == plain
        assert scores(index, query) == exact
        before, after = (dt.SurrogateIndex.open(client, one).get("d7") for one in (report.old, report.new))
        assert before is not None
        assert after is not None
        assert (after.terms, after.metadata) == (before.terms, before.metadata)
        assert np.array_equal(after.vector, before.vector)  # type: ignore[arg-type]
    assert len(drop_old(client, unique_name)) == len(layouts)
    assert drop_old(client, unique_name) == ()
    assert dt.SurrogateIndex.open(client, unique_name).count() == 60
    assert not Cluster(client).request("HEAD", f"/deepterms-migration-{unique_name}")


def test_drop_deletes_what_a_migration_left(client: Any, unique_name: str) -> None:
    index = dt.SurrogateIndex.create(client, unique_name, encoder=ENCODER, layout="words", replicas=0)
    for top_k in (7, 6):
        migrate(client, unique_name, encoder=dt.DeepPermutation(DIMENSIONS, top_k=top_k))
    neighbour = dt.SurrogateIndex.create(client, f"{unique_name}-too", encoder=ENCODER, layout="words", replicas=0)
    pattern = f"/deepterms-*-{unique_name}-*"
    first, second, _, _ = sorted(index.cluster.request("GET", pattern))
    index.cluster.request("PUT", f"/{second}/_alias/kept-{unique_name}")  # another alias is in use
    index.drop()
    assert sorted(index.cluster.request("GET", pattern)) == sorted([second, *neighbour.concrete])
    assert first not in index.cluster.request("GET", "/_ingest/pipeline")
    with pytest.raises(IndexNotFound):
        dt.SurrogateIndex.open(client, unique_name)
    assert dt.SurrogateIndex.open(client, f"kept-{unique_name}").count() == 0
    made = dt.SurrogateIndex.create(client, unique_name, encoder=ENCODER, layout="rank_features", replicas=0)
    made.drop()
    neighbour.drop()
    index.cluster.request("DELETE", f"/{second}")


def test_settings_fields_and_aliases_are_kept(client: Any, unique_name: str) -> None:
    index = filled(client, unique_name, count=0)
    own, old = Cluster(client), concrete(client, unique_name)
    own.request(
        "PUT", f"/{old}/_mapping", body={"properties": {"metadata": {"properties": {"n": {"type": "half_float"}}}}}
    )
    own.request("PUT", f"/{old}/_settings", body={"index": {"refresh_interval": "7s"}})
    other = {"index": old, "alias": f"{unique_name}-some", "filter": {"range": {"metadata.n": {"gt": 1.2}}}}
    own.request("POST", "/_aliases", body={"actions": [{"add": other}]})
    index.add(["a", "b"], features(2), [{"n": 1}, {"n": 1.5}])
    index.refresh()
    new = migrate(client, unique_name, to=find_layout("rank_features"), shards=3).new
    settings = own.request("GET", f"/{new}/_settings")[new]["settings"]["index"]
    assert [settings[key] for key in ("number_of_shards", "number_of_replicas", "refresh_interval")] == ["3", "0", "7s"]
    fields = own.request("GET", f"/{new}/_mapping")[new]["mappings"]["properties"]["metadata"]
    assert (fields["properties"]["n"]["type"], str(fields["dynamic"])) == ("half_float", "true")
    assert list(own.request("GET", f"/_alias/{unique_name}-some")) == [new]
    assert own.request("POST", f"/{unique_name}-some/_count")["count"] == 1


def test_another_encoder_encodes_the_stored_vectors(client: Any, unique_name: str) -> None:
    filled(client, unique_name)
    encoder = dt.DeepPermutation(DIMENSIONS, top_k=20)
    report = migrate(client, unique_name, encoder=encoder, drop=True)
    assert (report.copied, len(report.dropped)) == (60, 1)
    index = dt.SurrogateIndex.open(client, unique_name, encoder=encoder)
    memory = dt.MemoryIndex(encoder)
    memory.add([f"d{n}" for n in range(60)], features(60))
    query = features(1, seed=9)[0]
    expected = {hit.id: hit.score for hit in memory.search(query, k=60, rerank=0)}
    assert scores(index, query, rerank=0) == expected
    assert migrate(client, unique_name, encoder=encoder).old == ""  # nothing to do


def test_invalid_options_are_rejected_before_any_change(client: Any, unique_name: str) -> None:
    with pytest.raises(IndexNotFound, match="no index"):
        migrate(client, unique_name, to=find_layout("rank_features"))
    filled(client, unique_name, store_vectors=False)
    with pytest.raises(InvalidInput, match="stores no vectors"):
        migrate(client, unique_name, encoder=dt.DeepPermutation(DIMENSIONS, top_k=9))
    with pytest.raises(InvalidInput, match="'codewords' stores each codeword once"):
        migrate(client, unique_name, to=find_layout("codewords"))
    with pytest.raises(ClusterError, match="deepterms-words-v9 is not in the cluster"):
        migrate(client, unique_name, to=parse_layout("words-v9"))
    with pytest.raises(ClusterError, match="expected its alias"):
        migrate(client, concrete(client, unique_name), to=find_layout("rank_features"))
    with pytest.raises(MigrationFailed, match="was not migrated"):
        roll_back(client, unique_name)
    assert len(client.indices.get(index=f"deepterms-*-{unique_name}-*")) == 1
    assert (
        migrate(client, unique_name, to=find_layout("rank_features")).documents == 60
    )  # without vectors, terms are copied


@pytest.fixture
def version_two(client: Any) -> Iterator[None]:
    """Deploy a second version of the layout words, and delete it again."""
    own = Cluster(client)
    paths = {
        "pipeline": "/_ingest/pipeline/deepterms-words-v2",
        "encode_pipeline": "/_ingest/pipeline/deepterms-encode-words-v2",
        "template": "/_index_template/deepterms-words-v2",
    }
    for file, path in paths.items():
        own.request("PUT", path, body=json.loads((VERSION_TWO / f"{file}.json").read_text()))
    yield
    for index in client.indices.get(index="deepterms-words-v2-*"):
        client.indices.delete(index=index)
    for path in reversed(paths.values()):
        own.request("DELETE", path)


@pytest.mark.usefixtures("version_two")
def test_migration_to_a_new_version_of_a_layout(client: Any, unique_name: str) -> None:
    filled(client, unique_name)
    report = migrate(client, unique_name, to=parse_layout("words-v2"))
    assert report.new == f"deepterms-words-v2-{unique_name}-000002"
    index = dt.SurrogateIndex.open(client, unique_name)
    assert index.layout == replace(find_layout("words"), version=2)
    # The change of the second version applies to all documents, copied and new.
    index.add(["new"], features(1, seed=5))
    index.refresh()
    assert index.count(filter={"term": {"word_count": sum(range(1, 9))}}) == 61


def test_writes_during_a_migration_are_not_lost(client: Any, unique_name: str) -> None:
    """Meanwhile, a client that only knows the name adds, replaces, deletes and searches."""
    index = filled(client, unique_name, count=600)
    vectors = {f"d{n}": row for n, row in enumerate(features(600))}
    versions = dict.fromkeys(vectors, -1)
    stop = threading.Event()
    problems: list[Any] = []
    batches = 0

    def write() -> None:
        nonlocal batches
        generator = np.random.default_rng(1)
        while not stop.is_set():
            chosen = [f"d{n}" for n in generator.choice(700, 60, replace=False)]
            put, gone, rows = chosen[:45], chosen[45:], features(45, seed=batches + 100)
            added, deleted = index.add(put, rows, [{"batch": batches}] * 45), index.delete(gone)
            problems.extend([*added.failed, *deleted.failed])
            try:
                assert index.search(rows[0], rerank=0, k=3)
            except Exception as error:  # any exception, since a thread would lose it
                problems.append(error)
            vectors.update(zip(put, rows, strict=True))
            versions.update(dict.fromkeys(put, batches))
            for identifier in gone:
                versions.pop(identifier, None)
            batches += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reports = [
            migrate(client, unique_name, to=find_layout("rank_features")),
            migrate(client, unique_name, to=find_layout("words"), encoder=dt.DeepPermutation(DIMENSIONS, top_k=12)),
        ]
    finally:
        during = batches
        stop.set()
        writer.join()
    assert during > 5
    assert problems == []
    assert reports[0].copied > 600
    assert (index.layout.name, index.encoder) == ("words", dt.DeepPermutation(DIMENSIONS, top_k=12))
    index.refresh()
    assert index.count() == len(versions)
    body = {"query": {"match_all": {}}, "size": 1000, "_source": ["metadata"], "docvalue_fields": ["vector"]}
    hits = Cluster(client).request("POST", f"/{unique_name}/_search", body=body)["hits"]["hits"]
    assert {hit["_id"]: hit["_source"]["metadata"].get("batch", -1) for hit in hits} == versions
    # Each document is found by its own content, with its score against itself under the new encoder.
    last = [identifier for identifier, batch in versions.items() if batch > during - 4]
    for identifier in [*last, *list(versions)[:20]]:
        only = {"ids": {"values": [identifier]}}
        (hit,) = index.search(vectors[identifier], rerank=0, filter=only)
        assert (hit.id, hit.score) == (identifier, 12 * 13 * 25 / 6)
        (hit,) = index.search(vectors[identifier], filter=only)
        assert hit.score == pytest.approx(1, abs=1e-6)


# Where a migrating process is killed: a function, and whether before or after its call.
KILLS = [
    ("operations.Copier.catch_up", "before"),  # the new index exists, and is empty
    ("copier.Copier._copy", "after"),  # a page has been written
    ("operations.verify_copy", "before"),  # writes are blocked
    ("operations.write_origin", "after"),
    ("operations.Generations.point_to", "after"),
]
MIGRATING = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
import deepterms.migration.copier
from deepterms.migration import migrate
from deepterms.cli.connection import connect
from deepterms.schema.layouts import find_layout

url, name, to, path, when = sys.argv[1:]
deepterms.migration.copier.DOCUMENTS_PER_PAGE = 50
module, _, rest = path.partition(".")
*owners, attribute = rest.split(".")
owner = import_module("deepterms.migration." + module)
for part in owners:
    owner = getattr(owner, part)
real = getattr(owner, attribute)

def fatal(*arguments, **options):
    if when == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, attribute, fatal)
migrate(connect(url), name, to=find_layout(to), lease_seconds=1)
"""


def test_a_killed_migration_is_resumed(client: Any, url: str, unique_name: str) -> None:
    filled(client, unique_name, count=200)
    query = features(1, seed=9)[0]
    expected = scores(dt.SurrogateIndex.open(client, unique_name), query, rerank=0)
    for path, when in KILLS:
        arguments = [sys.executable, "-c", MIGRATING, url, unique_name, "rank_features", path, when]
        done = subprocess.run(arguments, env={**os.environ}, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        # Searches work throughout.
        assert scores(dt.SurrogateIndex.open(client, unique_name), query, rerank=0) == expected
    report = migrate(client, unique_name, to=find_layout("rank_features"), lease_seconds=1)
    assert (report.old, report.new) == (
        "",
        f"deepterms-rank_features-v1-{unique_name}-000002",
    )  # the last run had finished
    assert scores(dt.SurrogateIndex.open(client, unique_name), query, rerank=0) == expected
    index = dt.SurrogateIndex.open(client, unique_name)
    assert index.add(["after"], features(1)).succeeded == 1
    assert drop_old(client, unique_name) == (f"deepterms-words-v1-{unique_name}-000001",)


def test_a_resumed_run_skips_only_what_is_copied(
    client: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = filled(client, unique_name)

    def cut(*arguments: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deepterms.migration.operations.verify_copy", cut)
        with pytest.raises(KeyboardInterrupt):
            migrate(client, unique_name, to=find_layout("rank_features"))
    # Writes are allowed again: one document is replaced, one added, one deleted.
    assert index.add(["d0", "new"], features(2, seed=3)).succeeded == 2
    index.delete(["d1"])
    with pytest.raises(MigrationFailed, match="has other options"):
        migrate(client, unique_name, to=find_layout("rank_features"), shards=1)
    report = migrate(client, unique_name, to=find_layout("rank_features"))
    assert (report.skipped, report.copied, report.deleted, report.documents) == (58, 2, 1, 60)


def test_a_second_concurrent_migration_is_rejected(client: Any, unique_name: str) -> None:
    filled(client, unique_name)
    started = time.monotonic()
    with Lease(Cluster(client), unique_name, seconds=4) as lease:
        with pytest.raises(MigrationFailed, match=f"is being migrated by process {os.getpid()}"):
            migrate(client, unique_name, to=find_layout("rank_features"), lease_seconds=4)
        assert time.monotonic() - started < 4
        lease.check()
    assert migrate(client, unique_name, to=find_layout("rank_features"), lease_seconds=4).documents == 60


def test_a_replaced_lease_holder_stops(client: Any, unique_name: str) -> None:
    own = Cluster(client)
    with pytest.raises(MigrationFailed, match="was lost"), Lease(own, unique_name, seconds=1) as lease:
        own.request("PUT", f"/deepterms-migration-{unique_name}/_doc/lease", body={"owner": "another"})
        time.sleep(0.5)
        lease.check()
    own.request("DELETE", f"/deepterms-migration-{unique_name}")  # the other holder's


def test_an_invalid_document_stops_it_and_keeps_the_old_index(client: Any, unique_name: str) -> None:
    index = filled(client, unique_name)
    # Above the limit of the layout rank_features; only a client with its own terms can write it.
    line = ({"index": {"_id": "loud"}}, json.dumps({"terms": {"t1": 600}}))
    assert Cluster(client).bulk([line], index=unique_name).outcomes == [("loud", "")]
    with pytest.raises(MigrationFailed, match=r"1 documents cannot be copied .* loud: .*600"):
        migrate(client, unique_name, to=find_layout("rank_features"))
    assert concrete(client, unique_name) == find_layout("words").index_name(unique_name)
    assert index.delete(["loud"]).succeeded == 1
    assert migrate(client, unique_name, to=find_layout("rank_features")).skipped == 60


def test_rollback_is_rejected_if_it_would_lose_writes(client: Any, unique_name: str) -> None:
    filled(client, unique_name)
    old = concrete(client, unique_name)
    new = migrate(client, unique_name, to=find_layout("rank_features")).new
    index = dt.SurrogateIndex.open(client, unique_name)
    index.add(["later"], features(1))
    with pytest.raises(MigrationFailed, match=r"received 1 writes after"):
        roll_back(client, unique_name)
    assert index.add(["later still"], features(1)).succeeded == 1  # writes are not blocked
    report = roll_back(client, unique_name, discard_writes=True)
    assert (report.new, report.documents, concrete(client, unique_name)) == (old, 60, old)
    index = dt.SurrogateIndex.open(client, unique_name)
    assert index.add(["again"], features(1)).succeeded == 1
    again = migrate(client, unique_name, to=find_layout("rank_features"))
    assert (again.new[-6:], again.documents, again.skipped) == ("000003", 61, 0)
    assert again.dropped == ()
    assert set(drop_old(client, unique_name)) == {old, new}


def test_the_migrate_command(client: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    def deepterms(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deepterms", "migrate", unique_name, *arguments]
        environment = {**os.environ, "DEEPTERMS_URL": url, "COLUMNS": "200"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    filled(client, unique_name)
    for usage in ([], ["--rollback", "--to", "words"], ["--discard-writes", "--drop-old"]):
        assert deepterms(*usage).returncode == 2
    done = deepterms("--to", "rank_features", "--top-k", "12", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["documents"], report["new"]) == (60, f"deepterms-rank_features-v1-{unique_name}-000002")
    assert dt.SurrogateIndex.open(client, unique_name).encoder == dt.DeepPermutation(DIMENSIONS, top_k=12)
    done = deepterms("--rollback")
    assert done.returncode == 0, done.stderr
    assert f"{unique_name} → deepterms-words-v1-{unique_name}-000001" in done.stdout
    done = deepterms("--drop-old")
    assert done.returncode == 0, done.stderr
    assert f"deleted deepterms-rank_features-v1-{unique_name}-000002" in done.stderr
    done = deepterms("--to", "nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no layout 'nonsense'")
