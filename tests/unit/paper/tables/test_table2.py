from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepterms.cli.connection import connect
from deepterms.errors import InvalidInput, NodeError
from deepterms.paper.tables import local_cluster
from deepterms.paper.tables.local_cluster import LocalCluster
from deepterms.paper.tables.synthetic import SyntheticCollection
from deepterms.paper.tables.table2 import Table2


def test_unequal_shares_and_several_k_are_rejected() -> None:
    for collection, options in (
        (SyntheticCollection(10, 32, (4,)), {"shares": 3}),
        (SyntheticCollection(10, 32, (4, 5)), {"shares": 2}),
        (SyntheticCollection(10, 32, (4,)), {"shares": 2, "nodes": 0}),
    ):
        with pytest.raises(InvalidInput, match="expected one K, at least one node, and equal shares"):
            Table2(collection, **options)


def test_missing_processor_affinity_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with pytest.raises(NodeError, match="only on Linux"):
        local_cluster.list_cores()


def test_an_empty_cluster_has_no_url(tmp_path: Path) -> None:
    with LocalCluster(folder=tmp_path / "bench") as nodes, pytest.raises(NodeError, match="call add"):
        assert nodes.url


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that a node of another user can enter; pytest's own is private to its user."""
    with tempfile.TemporaryDirectory(prefix="deepterms-bench-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
def test_two_nodes_split_the_shares(shared_folder: Path) -> None:
    import psutil

    table = Table2(SyntheticCollection(400, 64, (20,)), shares=2, nodes=2)
    before = os.sched_getaffinity(0)
    pinned: list[set[int]] = []

    class Watched(LocalCluster):
        def add(self) -> None:
            super().add()
            pid = self._nodes[-1].status().pid
            pinned.append(set(psutil.Process(pid).cpu_affinity()))

    with Watched(heap="512m", folder=shared_folder / "bench") as nodes:
        result = table.run(nodes, connect, queries=3, hits=5)
        assert [len(cores) for cores in pinned] == [1, 1]
        assert os.sched_getaffinity(0) == before
    assert not nodes.folder.exists()
    assert [(row["nodes"], row["shares"], row["documents"]) for row in result["rows"]] == [
        (1, 1, 200), (1, 2, 400), (2, 1, 200), (2, 2, 400)
    ]  # fmt: skip
    assert "2 nodes" in result["engine"]
    assert result["postings"] == pytest.approx(200 * 20**2 / 128, rel=0.2)
    for row in result["rows"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["model_ms"] >= row["machines_ms"] > 0
