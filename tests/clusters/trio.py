"""Three nodes of an engine in Docker, which can be killed, cut off and brought back, under testcontainers."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker.errors
from docker.types import IPAMConfig, IPAMPool, Ulimit
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch
from testcontainers.core.container import DockerContainer

from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError
from deepterms.node.distribution import TRANSPORT_POLICY, VERSION
from tests.clusters import ClusterUnavailable, images, open_files
from tests.clusters.containers import Client

__all__ = ["KINDS", "NODES", "Trio", "running_trio"]

NODES = ("one", "two", "three")
# Not the label of the other containers: a run that starts removes those that stand still, as a killed node does.
_LABEL = "deepterms.trio"
_LEFT_BEHIND = "1h"
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


@dataclass(frozen=True)
class Kind:
    """What differs between the engines.

    Attributes:
        image: of the engine.
        jar: the server's, in the image.
        heap: the variable that takes Java's options.
        settings: in addition to those of both.
        client: addresses → a client as it should be made for production: all nodes, retries, a short timeout.
        files: put into a container whose image was built here: path → content.
    """

    image: str
    jar: str
    heap: str
    settings: Mapping[str, str]
    client: Callable[[list[str]], Client]
    files: Mapping[str, bytes] = field(default_factory=dict)


_OPENSEARCH_HOME = "/usr/share/opensearch"
KINDS: Mapping[str, Kind] = {
    "elasticsearch": Kind(
        images.ELASTICSEARCH,
        f"/usr/share/elasticsearch/lib/elasticsearch-{images.ELASTICSEARCH.rpartition(':')[2]}.jar",
        "ES_JAVA_OPTS",
        {"cluster.initial_master_nodes": ",".join(NODES), "xpack.security.enabled": "false"},
        lambda urls: Elasticsearch(urls, request_timeout=10, max_retries=5, retry_on_timeout=True),
    ),
    "opensearch": Kind(
        images.OPENSEARCH,
        f"{_OPENSEARCH_HOME}/lib/opensearch-{VERSION}.jar",
        "OPENSEARCH_JAVA_OPTS",
        {
            "cluster.initial_cluster_manager_nodes": ",".join(NODES),
            "DISABLE_SECURITY_PLUGIN": "true",
            "DISABLE_INSTALL_DEMO_CONFIG": "true",
        },
        lambda urls: OpenSearch(urls, timeout=10, max_retries=5, retry_on_timeout=True),
        {f"{_OPENSEARCH_HOME}/{path}": text.encode() for path, text in TRANSPORT_POLICY.items()},
    ),
}


class Trio:
    """A running cluster of three nodes.

    Attributes:
        engine: a key of KINDS.
        urls: of the nodes.
        client: the caller's.
    """

    def __init__(self, engine: str, containers: dict[str, Any], network: Any, ports: dict[str, int]) -> None:
        self.engine = engine
        self.urls = [f"http://localhost:{ports[node]}" for node in NODES]
        self.client = KINDS[engine].client(self.urls)
        self._cluster = Cluster(self.client)
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

    def node_count(self) -> int:
        """How many nodes the elected one counts."""
        return int(self.request("GET", "/_cluster/health")["number_of_nodes"])

    def request(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """As `Cluster.request`, of whichever node answers."""
        return self._cluster.request(method, path, body=body, params=params)

    def _is_green(self) -> bool:
        health = self.request("GET", "/_cluster/health")
        return bool(health["status"] == "green" and health["number_of_nodes"] == len(NODES))

    def _nodes(self) -> list[dict[str, str]]:
        return list(self.request("GET", "/_cat/nodes", params={"format": "json", "h": "name,master"}))


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
        except ClusterError:
            pass
        time.sleep(0.25)
    raise TimeoutError(f"{otherwise} after {seconds:.0f} s")


@contextmanager
def running_trio(engine: str) -> Iterator[Trio]:
    """Starts three nodes, and removes them at the end.

    Args:
        engine: a key of KINDS.

    Raises:
        ClusterUnavailable: this machine cannot run them.
    """
    kind = KINDS[engine]
    images.provide(kind.image)
    with ExitStack() as running:
        client = running.enter_context(images.connect())
        for things in (client.containers, client.networks):
            things.prune({"label": _LABEL, "until": _LEFT_BEHIND})
        network = _network(client)
        running.callback(network.remove)
        limits, files = [Ulimit(name="nofile", soft=open_files.DEMANDED, hard=open_files.DEMANDED)], {}
        if not open_files.can_be_raised():
            limits, files = [], {kind.jar: open_files.patch_jar(client, kind.image, kind.jar)}
        if images.is_built_here(client.images.get(kind.image)):
            files |= kind.files
        ports = dict(zip(NODES, _free_ports(len(NODES)), strict=True))
        containers = {}
        for node in NODES:
            endpoint = client.api.create_endpoint_config(**_endpoint(network, node))
            container = DockerContainer(kind.image).with_bind_ports(9200, ports[node])
            container.with_kwargs(
                labels={_LABEL: "true"},
                network=network.name,
                networking_config={network.name: endpoint},
                ulimits=limits,
            )
            for path, content in files.items():
                container.with_copy_into_container(content, path)
            for name, value in {**_SETTINGS, **kind.settings, kind.heap: _HEAP, "node.name": node}.items():
                container.with_env(name, value)
            container.start()
            running.callback(container.stop)
            containers[node] = container.get_wrapped_container()
        trio = Trio(engine, containers, network, ports)
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
