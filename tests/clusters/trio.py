"""Three nodes of OpenSearch in Docker, whose nodes can be killed, cut off and brought back, under testcontainers."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import docker.errors
import opensearchpy
from docker.types import IPAMConfig, IPAMPool, Ulimit
from opensearchpy import OpenSearch
from testcontainers.core.container import DockerContainer

from deepterms.node.distribution import VERSION
from tests.clusters import ClusterUnavailable, images, open_files

__all__ = ["NODES", "Trio", "running_trio"]

NODES = ("one", "two", "three")
# Not the label of the other containers: a run that starts removes those that stand still, as a killed node does.
_LABEL = "deepterms.trio"
_LEFT_BEHIND = "1h"
_HOME = "/usr/share/opensearch"
# In the official archive, but in no jar: without it a node that is assembled from jars may not call the others.
_MAY_CONNECT = b'grant { permission java.net.SocketPermission "*", "accept,connect,resolve"; };'
_HEAP = "-Xms512m -Xmx512m"
_SETTINGS = {
    "cluster.name": "deepterms-trio",
    "discovery.seed_hosts": ",".join(NODES),
    "node.store.allow_mmap": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # A node that does not answer is given up after four seconds instead of half a minute, so that the tests are short.
    "cluster.fault_detection.follower_check.timeout": "2s",
    "cluster.fault_detection.follower_check.retry_count": "2",
    "cluster.fault_detection.leader_check.timeout": "2s",
    "cluster.fault_detection.leader_check.retry_count": "2",
    # So long a change of the cluster's state waits for a node that does not answer, instead of half a minute.
    "cluster.publish.timeout": "5s",
}
_PATIENCE_SECONDS = 300


class Trio:
    """A running cluster of three nodes.

    Attributes:
        client: the caller's client as it should be made for production: all nodes, retries, a short timeout.
        urls: of the nodes.
    """

    def __init__(self, containers: dict[str, Any], network: Any, ports: dict[str, int]) -> None:
        self.urls = [f"http://localhost:{ports[node]}" for node in NODES]
        self.client = client_of(self.urls)
        self._containers = containers
        self._network = network

    def manager(self) -> str:
        """The node that is the elected cluster manager."""
        return next(node["name"] for node in self._nodes() if node["master"] == "*")

    def other(self) -> str:
        """A node that is not the manager."""
        return next(node["name"] for node in self._nodes() if node["master"] != "*")

    def kill(self, node: str) -> None:
        """End a node's process with SIGKILL."""
        self._containers[node].kill("SIGKILL")

    def start(self, node: str) -> None:
        """Start a killed node again, on the files that it left."""
        self._containers[node].start()

    def cut_off(self, node: str) -> None:
        """Take a node out of the network: its process goes on, and nobody hears of it."""
        self._network.disconnect(self._containers[node])

    def reconnect(self, node: str) -> None:
        """Put it back, at the address that the others know."""
        self._network.connect(self._containers[node], **_endpoint(self._network, node))

    def settled(self) -> None:
        """Wait until all three nodes are there and every shard has all its copies."""
        wait_until(self._is_green, "the three nodes are not green")

    def _is_green(self) -> bool:
        health = self.client.cluster.health()
        return bool(health["status"] == "green" and health["number_of_nodes"] == len(NODES))

    def _nodes(self) -> list[dict[str, str]]:
        nodes: Any = self.client.cat.nodes(format="json", h="name,master")
        return list(nodes)


def client_of(urls: list[str]) -> OpenSearch:
    """A client that knows all nodes, asks another one after an error or ten seconds, and tries five times."""
    return OpenSearch(urls, timeout=10, max_retries=5, retry_on_timeout=True)


def wait_until(done: Callable[[], bool], otherwise: str, *, seconds: float = _PATIENCE_SECONDS) -> None:
    """Ask again and again; a cluster that does not answer has not got there yet.

    Raises:
        TimeoutError: with the sentence given.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if done():
                return
        except opensearchpy.OpenSearchException:
            pass
        time.sleep(0.25)
    raise TimeoutError(f"{otherwise} after {seconds:.0f} s")


@contextmanager
def running_trio() -> Iterator[Trio]:
    """Starts three nodes of OpenSearch, and removes them at the end.

    Raises:
        ClusterUnavailable: this machine cannot run them.
    """
    images.provide(images.OPENSEARCH)
    with ExitStack() as running:
        client = running.enter_context(images.connect())
        for things in (client.containers, client.networks):
            things.prune({"label": _LABEL, "until": _LEFT_BEHIND})
        network = _network(client)
        running.callback(network.remove)
        limits, files = [Ulimit(name="nofile", soft=open_files.DEMANDED, hard=open_files.DEMANDED)], {}
        if not open_files.may_be_raised():
            jar = f"{_HOME}/lib/opensearch-{VERSION}.jar"
            limits, files = [], {jar: open_files.patched_jar(client, images.OPENSEARCH, jar)}
        if images.is_built_here(client.images.get(images.OPENSEARCH)):
            files[f"{_HOME}/modules/transport-netty4/plugin-security.policy"] = _MAY_CONNECT
        ports = dict(zip(NODES, _free_ports(len(NODES)), strict=True))
        containers = {}
        for node in NODES:
            endpoint = client.api.create_endpoint_config(**_endpoint(network, node))
            container = DockerContainer(images.OPENSEARCH).with_bind_ports(9200, ports[node])
            container.with_kwargs(
                labels={_LABEL: "true"},
                network=network.name,
                networking_config={network.name: endpoint},
                ulimits=limits,
            )
            for path, content in files.items():
                container.with_copy_into_container(content, path)
            container.with_env("OPENSEARCH_JAVA_OPTS", _HEAP).with_env("node.name", node)
            container.with_env("cluster.initial_cluster_manager_nodes", ",".join(NODES))
            container.with_env("DISABLE_SECURITY_PLUGIN", "true").with_env("DISABLE_INSTALL_DEMO_CONFIG", "true")
            for name, value in _SETTINGS.items():
                container.with_env(name, value)
            container.start()
            running.callback(container.stop)
            containers[node] = container.get_wrapped_container()
        trio = Trio(containers, network, ports)
        with closing(trio.client):
            trio.settled()
            yield trio


def _network(client: Any) -> Any:
    """A network whose addresses are given out here, so that a node comes back to the one it had."""
    for third in range(200, 250):
        pool = IPAMPool(subnet=f"10.213.{third}.0/28")
        try:
            return client.networks.create(
                f"deepterms-trio-{third}",
                driver="bridge",
                check_duplicate=True,
                ipam=IPAMConfig(pool_configs=[pool]),
                labels={_LABEL: "true"},
            )
        except docker.errors.APIError as error:  # another run's
            reason = error
    raise ClusterUnavailable(f"no network for three nodes can be made: {reason}")


def _endpoint(network: Any, node: str) -> dict[str, Any]:
    network.reload()
    subnet = network.attrs["IPAM"]["Config"][0]["Subnet"].removesuffix("0/28")
    return {"ipv4_address": f"{subnet}{NODES.index(node) + 3}", "aliases": [node]}


def _free_ports(count: int) -> list[int]:
    """Ports of this machine that are free now; a published port that Docker chooses would change with each start."""
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in itertools.repeat(None, count)]
        for free in found:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in found]
