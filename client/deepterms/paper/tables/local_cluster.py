"""Nodes: several OpenSearch processes on this machine as one cluster, each with one core and no more."""

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

__all__ = ["Nodes", "cores"]

PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.2


def cores() -> list[int]:
    """Numbers of the cores that this process may use.

    Raises:
        NodeError: this system does not let a process choose.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise NodeError("a node can be held to one core on Linux only; run this there")
    return sorted(os.sched_getaffinity(0))


class Nodes:
    """A cluster that grows node by node, and is gone with all its data when the block is left.

    The first node is the manager, and the one that answers. Node n is held to core n modulo their number, and sees one
    processor: Java and OpenSearch size their threads by it.

    Args:
        heap: of each node, in the JVM's notation.
        folder: of their data; by default one beside the node's of `deepterms node`.
    """

    def __init__(self, *, heap: str = "1g", folder: Path | None = None) -> None:
        self.heap = heap
        self.folder = folder or data_dir() / "bench"
        self._nodes: list[Node] = []
        self._seed = f"{LOCALHOST}:{next(find_free_ports(0))}"

    def __enter__(self) -> Nodes:
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
        """Of the first node.

        Raises:
            NodeError: it does not run.
        """
        url = self._nodes[0].status().url if self._nodes else None
        if url is None:
            raise NodeError("no node runs; add one first")
        return url

    def name(self, number: int) -> str:
        """Of a node, counted from 0."""
        return f"bench-{number}"

    def core(self, number: int) -> int:
        """The core of a node, counted from 0."""
        return cores()[number % len(cores())]

    def add(self) -> None:
        """Start one more node and wait until it has joined.

        Raises:
            NodeError: it cannot be started.
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
        node = Node(self.folder / str(number), cluster_name="deepterms-bench", home=_home(), settings=settings)
        self._nodes.append(node)
        self.start(number)

    def start(self, number: int) -> None:
        """Start a node that was stopped, counted from 0; it comes back with its data.

        Raises:
            NodeError: it cannot be started.
        """
        with _held_to(self.core(number)):
            self._nodes[number].start(port=0, heap=self.heap)

    def stop(self, number: int) -> None:
        """Stop a node, counted from 0, which keeps its data."""
        self._nodes[number].stop()

    def settle(self, cluster: Cluster) -> None:
        """Wait until every node is in the cluster, and every shard where it belongs.

        Raises:
            ClusterError: that takes too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        health: dict[str, Any] = {}
        while time.monotonic() < deadline:
            health = cluster.request("GET", "/_cluster/health")
            moving = sum(int(health[f"{what}_shards"]) for what in ("relocating", "initializing", "unassigned"))
            if not moving and health["number_of_nodes"] == len(self._nodes):
                return
            time.sleep(POLL_SECONDS)
        raise ClusterError(f"the nodes did not settle in {PATIENCE_SECONDS:.0f} s: {health}")


def _home() -> Path:
    """The distribution, with what lets its nodes talk to each other."""
    home = assemble()
    for path, text in TRANSPORT_POLICY.items():
        if not (home / path).exists():
            (home / path).write_text(text, encoding="utf-8")
            (home / path).chmod(0o644)
    return home


@contextmanager
def _held_to(core: int) -> Iterator[None]:
    """Processes that are started meanwhile may use one core only, for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
