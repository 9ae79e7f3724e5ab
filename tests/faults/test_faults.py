"""Nodes are killed or disconnected, disks fill up, clients die: no acknowledged document is lost, no score is wrong."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.errors import ClusterError
from deepterms.index import ingest
from deepterms.index.checkpoint import Checkpoint, hash_piece
from deepterms.index.ingest import describe_owner
from deepterms.schema.documents import check_batch
from tests.clusters.trio import Trio, wait_until
from tests.faults.killed_client import DOCUMENTS_PER_PIECE, add_until_killed
from tests.faults.workload import ENCODER, Documents, Tally, Workload

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.own_cluster]

Judge = Callable[[str, Tally], None]
CLIENT_KILLS = 20


@pytest.mark.parametrize("victim", ["data node", "cluster manager"])
def test_a_node_is_killed(trio: Trio, judged: Judge, seed: int, victim: str) -> None:
    work = Workload(trio.client, f"killed-{seed}", seed=seed)
    trio.settled()
    node = trio.manager() if victim == "cluster manager" else trio.other()
    with work.running():
        work.wait_for_progress()
        trio.kill(node)
        work.wait_for_progress()
        trio.start(node)
        trio.settled()
    judged(f"`kill -9` of {'the elected' if victim == 'cluster manager' else 'a'} {victim}", work.verdict())


@pytest.mark.parametrize("victim", ["data node", "cluster manager"])
def test_a_node_is_cut_off(trio: Trio, judged: Judge, seed: int, victim: str) -> None:
    work = Workload(trio.client, f"cut-{seed}", seed=seed)
    trio.settled()
    node = trio.manager() if victim == "cluster manager" else trio.other()
    with work.running():
        work.wait_for_progress()
        trio.cut_off(node)
        try:
            work.wait_for_progress()
        finally:
            trio.reconnect(node)
        trio.settled()
        work.wait_for_progress()
    judged(
        f"network partition: {'the elected' if victim == 'cluster manager' else 'a'} {victim} cut off", work.verdict()
    )


def test_a_shard_without_any_copy_is_flagged(trio: Trio, judged: Judge, seed: int) -> None:
    documents = Documents("s", 500, seed=seed)
    dt.deploy(trio.client)
    index = dt.SurrogateIndex.create(trio.client, f"lonely-{seed}", encoder=ENCODER, shards=3, replicas=0)
    tally = Tally(times=1, acknowledged=index.add(documents.ids, documents.rows).succeeded)
    index.refresh()
    trio.settled()
    node = trio.other()
    trio.kill(node)
    wait_until(lambda: trio.node_count() == 2, "the killed node is still there")
    for query, row in enumerate(documents.queries):
        hits = index.search(row, k=500, rerank=0)
        tally.searches += 1
        tally.partial += hits.partial
        tally.wrong += len(documents.judge(hits, query, exact=False)) + (not hits.partial)
    with pytest.raises(ClusterError, match="did not answer while documents were counted"):
        index.count()
    with pytest.raises(ClusterError):
        index.reconcile(documents.ids)
    trio.start(node)
    trio.settled()
    tally.lost = index.reconcile(documents.ids).missing_count
    assert index.count() == tally.acknowledged
    index.drop()
    judged("`kill -9` of the only node with a copy", tally)


def test_the_disks_are_full(trio: Trio, judged: Judge, seed: int) -> None:
    work = Workload(trio.client, f"full-{seed}", seed=seed)
    trio.settled()
    with work.running():
        work.wait_for_progress()
        _leave_free(trio, "100000gb")  # more than the disk has
        try:
            wait_until(lambda: _blocked(trio, work), "the flood-stage block does not come")
            seen = len(work.acknowledged)
            time.sleep(2)
            assert len(work.acknowledged) - seen <= 2 * 10  # requests in flight
        finally:
            _leave_free(trio, "1mb")
        wait_until(lambda: not _blocked(trio, work), "the flood-stage block does not go")
        work.wait_for_progress()
    _leave_free(trio, None)
    judged("full disk: flood-stage block, then space again", work.verdict())


def test_the_client_is_killed_twenty_times(
    trio: Trio, judged: Judge, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workload(trio.client, f"client-{seed}", seed=seed)
    index, documents, path = work.moving, work.documents, str(tmp_path / "checkpoint")
    generator = np.random.default_rng(seed)
    arguments = {
        "engine": trio.engine, "urls": trio.urls, "name": index.name, "checkpoint": path, "seed": seed + 1
    }  # fmt: skip
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.faults.killed_client"])  # imports take longer than the test itself
    told = 0  # acknowledged documents that the clients reported before they died
    for _ in range(CLIENT_KILLS):
        telling, sender = processes.Pipe(duplex=False)
        client = processes.Process(target=add_until_killed, args=(sender,), kwargs=arguments)
        with telling:
            client.start()
            sender.close()
            said = 0
            for _ in range(int(generator.integers(1, 12)) + told // DOCUMENTS_PER_PIECE):
                said += telling.recv()  # fails if the client has exited on its own
            time.sleep(generator.uniform(0, 0.03))
            client.kill()
            client.join()
            told = max(told, said)
    held = _held(index, documents, path)
    assert told <= len(held) < len(documents.ids)
    assert not index.reconcile(held).missing_count
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", DOCUMENTS_PER_PIECE)
    report = index.add_batches([(documents.ids, documents.rows, None)], checkpoint=path)
    assert report == dt.WriteReport(len(documents.ids), skipped=len(held))
    assert index.reconcile(documents.ids).equal
    work.acknowledged.update(documents.ids)
    work.tally.times = CLIENT_KILLS
    judged("client killed, run again with its checkpoint", work.verdict())


def _held(index: dt.SurrogateIndex, documents: Documents, path: str) -> list[str]:
    """Return the ids of the documents that a checkpoint lists as acknowledged."""
    held: list[str] = []
    with Checkpoint(path, owner=describe_owner(index.state)) as checkpoint:
        for start in range(0, len(documents.ids), DOCUMENTS_PER_PIECE):
            piece = slice(start, start + DOCUMENTS_PER_PIECE)
            batch = check_batch(documents.ids[piece], documents.rows[piece], None, encoder=ENCODER)
            if checkpoint.holds(hash_piece(batch)):
                held += batch.ids
        assert len(held) == checkpoint.acknowledged
    return held


def _leave_free(trio: Trio, space: str | None) -> None:
    """Set the free space below which a disk counts as full."""
    marks = dict.fromkeys(("low", "high", "flood_stage"), space)
    settings = {f"cluster.routing.allocation.disk.watermark.{mark}": space for mark in marks}
    settings["cluster.routing.allocation.disk.threshold_enabled"] = None if space is None else "true"
    settings["cluster.info.update.interval"] = None if space is None else "10s"
    body: dict[str, Any] = {"persistent": settings}
    if trio.engine == "opensearch":
        # With all disks full it also blocks new indices, and may take a while to notice that there is space again.
        settings["cluster.blocks.create_index"] = None
        body["transient"] = {"cluster.blocks.create_index": None}
    trio.request("PUT", "/_cluster/settings", body=body)


def _blocked(trio: Trio, work: Workload) -> bool:
    answer = trio.request("GET", f"/{work.moving.name}/_settings")
    return any("read_only_allow_delete" in found["settings"]["index"].get("blocks", {}) for found in answer.values())
