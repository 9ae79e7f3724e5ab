"""Three nodes of an engine in Docker that can be killed, disconnected and restarted, with testcontainers."""

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
# Not the label of the other containers: every run removes those that are stopped, such as a killed node.
_LABEL = "deepterms.trio"
_LEFT_BEHIND = "1h"
_HEAP = "-Xms512m -Xmx512m"
_SETTINGS = {
    "cluster.name": "deepterms-trio",
    "discovery.seed_hosts": ",".join(NODES),
    "node.store.allow_mmap": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # A node that does not respond is removed after four seconds instead of half a minute, to keep the tests short.
    "cluster.fault_detection.follower_check.timeout": "2s",
    "cluster.fault_detection.follower_check.retry_count": "2",
    "cluster.fault_detection.leader_check.timeout": "2s",
    "cluster.fault_detection.leader_check.retry_count": "2",
    # How long a change of cluster state waits for a node that does not respond; half a minute by default.
    "cluster.publish.timeout": "5s",
}
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Kind:
    """What differs between the engines.

    Attributes:
        image: of the engine.
        jar: the server's, in the image.
        heap: the environment variable for Java's options.
        settings: in addition to the common ones.
        client: URLs → a client with production settings: all nodes, retries, a short timeout.
        files: path → content, copied into containers whose image was built here.
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
        client: connected to all nodes.
    """

    def __init__(self, engine: str, containers: dict[str, Any], network: Any, ports: dict[str, int]) -> None:
        self.engine = engine
        self.urls = [f"http://localhost:{ports[node]}" for node in NODES]
        self.client = KINDS[engine].client(self.urls)
        self._cluster = Cluster(self.client)
        self._containers = containers
        self._network = network

    def manager(self) -> str:
        """Return the name of the elected cluster manager."""
        return next(node["name"] for node in self._nodes() if node["master"] == "*")

    def other(self) -> str:
        """Return the name of a node that is not the manager."""
        return next(node["name"] for node in self._nodes() if node["master"] != "*")

    def kill(self, node: str) -> None:
        """End a node's process with SIGKILL."""
        self._containers[node].kill("SIGKILL")

    def start(self, node: str) -> None:
        """Restart a killed node with its data."""
        self._containers[node].start()

    def cut_off(self, node: str) -> None:
        """Disconnect a node from the network; its process keeps running."""
        self._network.disconnect(self._containers[node])

    def reconnect(self, node: str) -> None:
        """Reconnect a node, with the address that the others know."""
        self._network.connect(self._containers[node], **_endpoint(self._network, node))

    def settled(self) -> None:
        """Wait until all three nodes are in the cluster and every shard has all its copies."""
        wait_until(self._is_green, "the three nodes are not green")

    def node_count(self) -> int:
        """Return the number of nodes according to the elected manager."""
        return int(self.request("GET", "/_cluster/health")["number_of_nodes"])

    def request(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send a request to any node, like `Cluster.request`."""
        return self._cluster.request(method, path, body=body, params=params)

    def _is_green(self) -> bool:
        health = self.request("GET", "/_cluster/health")
        return bool(health["status"] == "green" and health["number_of_nodes"] == len(NODES))

    def _nodes(self) -> list[dict[str, str]]:
        return list(self.request("GET", "/_cat/nodes", params={"format": "json", "h": "name,master"}))


def wait_until(done: Callable[[], bool], otherwise: str, *, seconds: float = _PATIENCE_SECONDS) -> None:
    """Poll until `done` returns true; a cluster that does not respond counts as not done.

    Raises:
        TimeoutError: with `otherwise` as message.
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
    """Start three nodes, and remove them at the end.

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
        if not open_files.may_be_raised():
            limits, files = [], {kind.jar: open_files.patched_jar(client, kind.image, kind.jar)}
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
    """Create a network with addresses assigned here, so that a node keeps its address when it reconnects."""
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
        except docker.errors.APIError as error:  # in use by another run
            reason = error
    raise ClusterUnavailable(f"no network for three nodes can be made: {reason}")


def _endpoint(network: Any, node: str) -> dict[str, Any]:
    network.reload()
    subnet = network.attrs["IPAM"]["Config"][0]["Subnet"].removesuffix("0/28")
    return {"ipv4_address": f"{subnet}{NODES.index(node) + 3}", "aliases": [node]}


def _free_ports(count: int) -> list[int]:
    """Find free ports; published ports that Docker assigns would change with each start."""
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in itertools.repeat(None, count)]
        for free in found:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in found]
