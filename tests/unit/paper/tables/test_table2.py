from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepterms.cli.connection import connect
from deepterms.errors import InvalidInput, NodeError
from deepterms.paper.tables import local_cluster as nodes_module
from deepterms.paper.tables.local_cluster import Nodes
from deepterms.paper.tables.synthetic import Collection
from deepterms.paper.tables.table2 import Table2


def test_refuses_shares_that_are_not_equal_and_more_than_one_k() -> None:
    for collection, options in (
        (Collection(10, 32, (4,)), {"shares": 3}),
        (Collection(10, 32, (4, 5)), {"shares": 2}),
        (Collection(10, 32, (4,)), {"shares": 2, "nodes": 0}),
    ):
        with pytest.raises(InvalidInput, match="expected one K, one node or more, and equal shares"):
            Table2(collection, **options)


def test_without_cores_to_choose_from_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with pytest.raises(NodeError, match="on Linux only"):
        nodes_module.cores()


def test_nothing_runs_before_a_node_is_added(tmp_path: Path) -> None:
    with Nodes(folder=tmp_path / "bench") as nodes, pytest.raises(NodeError, match="add one first"):
        assert nodes.url


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that root's node can enter: pytest's is root's alone."""
    with tempfile.TemporaryDirectory(prefix="deepterms-bench-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.slow
def test_two_nodes_share_the_work(shared_folder: Path) -> None:
    import psutil

    table = Table2(Collection(400, 64, (20,)), shares=2, nodes=2)
    before = os.sched_getaffinity(0)
    held: list[set[int]] = []

    class Watched(Nodes):
        def add(self) -> None:
            super().add()
            pid = self._nodes[-1].status().pid
            held.append(set(psutil.Process(pid).cpu_affinity()))

    with Watched(heap="512m", folder=shared_folder / "bench") as nodes:
        result = table.run(nodes, connect, queries=3, hits=5)
        assert [len(cores) for cores in held] == [1, 1]
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
