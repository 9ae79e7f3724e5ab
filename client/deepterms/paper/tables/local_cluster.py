"""Run several OpenSearch processes on this machine as one cluster, each pinned to one core."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, NodeError
from deepterms.node import Node, assemble
from deepterms.node.distribution import TRANSPORT_POLICY
from deepterms.node.folders import data_dir
from deepterms.node.ports import LOCALHOST, find_free_ports

__all__ = ["LocalCluster", "list_cores"]

PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.2


def list_cores() -> list[int]:
    """List the numbers of the cores available to this process.

    Raises:
        NodeError: this operating system does not support processor affinity.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise NodeError("pinning a node to one core works only on Linux; run this on Linux")
    return sorted(os.sched_getaffinity(0))


class LocalCluster:
    """A cluster that grows node by node; leaving the context stops it and deletes its data.

    The first node is the cluster manager and answers requests. Node n is pinned to core n modulo the number of cores
    and sees a single processor, by which Java and OpenSearch size their thread pools.

    Args:
        heap: per node, in JVM notation.
        folder: for data; by default next to that of `deepterms node`.
    """

    def __init__(self, *, heap: str = "1g", folder: Path | None = None) -> None:
        self.heap = heap
        self.folder = folder or data_dir() / "bench"
        self._nodes: list[Node] = []
        self._seed = f"{LOCALHOST}:{next(find_free_ports(0))}"

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node in reversed(self._nodes):
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def url(self) -> str:
        """URL of the first node.

        Raises:
            NodeError: the node is not running.
        """
        url = self._nodes[0].status().url if self._nodes else None
        if url is None:
            raise NodeError("no node is running; call add() first")
        return url

    def name(self, number: int) -> str:
        """Return the name of a node, counted from 0."""
        return f"bench-{number}"

    def core(self, number: int) -> int:
        """Return the core that a node, counted from 0, is pinned to."""
        return list_cores()[number % len(list_cores())]

    def add(self) -> None:
        """Start another node and wait until it has joined.

        Raises:
            NodeError: the node cannot be started.
        """
        number = len(self._nodes)
        settings = {
            "node.name": self.name(number),
            "node.processors": "1",
            "discovery.seed_hosts": self._seed,
            "transport.port": self._seed.rpartition(":")[2] if number == 0 else str(next(find_free_ports(0))),
        }
        if number == 0:
            settings["cluster.initial_cluster_manager_nodes"] = self.name(0)
        else:
            settings["node.roles"] = "data,ingest"
        node = Node(
            self.folder / str(number), cluster_name="deepterms-bench", home=_prepare_distribution(), settings=settings
        )
        self._nodes.append(node)
        self.start(number)

    def start(self, number: int) -> None:
        """Start a stopped node, counted from 0, with its data.

        Raises:
            NodeError: the node cannot be started.
        """
        with _pinned_to(self.core(number)):
            self._nodes[number].start(port=0, heap=self.heap)

    def stop(self, number: int) -> None:
        """Stop a node, counted from 0, and keep its data."""
        self._nodes[number].stop()

    def settle(self, cluster: Cluster) -> None:
        """Wait until every node has joined and no shard is moving or unassigned.

        Raises:
            ClusterError: it takes too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            health = cluster.request("GET", "/_cluster/health")
            moving = sum(int(health[f"{what}_shards"]) for what in ("relocating", "initializing", "unassigned"))
            if not moving and health["number_of_nodes"] == len(self._nodes):
                return
            time.sleep(POLL_SECONDS)
        raise ClusterError(f"the cluster did not settle within {PATIENCE_SECONDS:.0f} s: {health}")


def _prepare_distribution() -> Path:
    """Assemble the distribution and add the security policy that lets nodes connect to each other."""
    home = assemble()
    for path, text in TRANSPORT_POLICY.items():
        if not (home / path).exists():
            (home / path).write_text(text, encoding="utf-8")
            (home / path).chmod(0o644)
    return home


@contextmanager
def _pinned_to(core: int) -> Iterator[None]:
    """Pin the processes started inside the context to one core for their lifetime."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
