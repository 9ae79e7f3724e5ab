"""Names of engines into clients of running single-node clusters, with testcontainers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress

import elasticsearch
import opensearchpy
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch
from testcontainers.community.elasticsearch import ElasticSearchContainer
from testcontainers.core.container import DockerContainer

from tests.clusters import images

with warnings.catch_warnings():
    # The module uses a decorator that testcontainers has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from testcontainers.community.opensearch import OpenSearchContainer

__all__ = ["ENGINES", "Client", "delete_indices", "running_clusters"]

Client = OpenSearch | Elasticsearch

_JAVA_OPTIONS = "-Xms1g -Xmx1g"
_SETTINGS = {
    "discovery.type": "single-node",
    # Not every container can raise the kernel's vm.max_map_count.
    "node.store.allow_mmap": "false",
    # Otherwise a nearly full disk would make indices read-only.
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # The folder for snapshot repositories.
    "path.repo": "/tmp/snapshots",
}
_REQUEST_TIMEOUT = 60  # seconds; the machine runs two engines and the tests


@contextmanager
def _opensearch() -> Iterator[OpenSearch]:
    container = OpenSearchContainer(images.OPENSEARCH).with_env("OPENSEARCH_JAVA_OPTS", _JAVA_OPTIONS)
    # Otherwise the official image creates certificates for the security plugin, which is disabled.
    container.with_env("DISABLE_INSTALL_DEMO_CONFIG", "true")
    with _configured(container):
        hosts = [{"host": container.get_container_host_ip(), "port": container.get_exposed_port(container.port)}]
        with closing(OpenSearch(hosts=hosts, timeout=_REQUEST_TIMEOUT)) as client:
            yield client


@contextmanager
def _elasticsearch() -> Iterator[Elasticsearch]:
    container = ElasticSearchContainer(images.ELASTICSEARCH).with_env("ES_JAVA_OPTS", _JAVA_OPTIONS)
    with _configured(container):
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}"
        with closing(Elasticsearch(url, request_timeout=_REQUEST_TIMEOUT)) as client:
            client.cluster.health(wait_for_status="yellow", timeout="60s")
            yield client


def _configured(container: DockerContainer) -> DockerContainer:
    for name, value in _SETTINGS.items():
        container.with_env(name, value)
    return container.with_kwargs(labels={images.CONTAINER_LABEL: "true"})


# Name → image, and a context manager that runs it.
ENGINES: Mapping[str, tuple[str, Callable[[], AbstractContextManager[Client]]]] = {
    "elasticsearch": (images.ELASTICSEARCH, _elasticsearch),
    "opensearch": (images.OPENSEARCH, _opensearch),
}


@contextmanager
def running_clusters(engines: Collection[str]) -> Iterator[Mapping[str, Future[Client]]]:
    """Start one cluster per engine, all at the same time, and remove them at the end.

    Every future is done. Its result is a client, or the exception that prevented the cluster from starting:
    ClusterUnavailable if this machine cannot run it.

    Args:
        engines: names, keys of ENGINES.
    """
    with ExitStack() as clusters:

        def start(engine: str) -> Client:
            image, cluster = ENGINES[engine]
            images.provide(image)
            return clusters.enter_context(cluster())

        with ThreadPoolExecutor() as pool:
            futures = {engine: pool.submit(start, engine) for engine in sorted(engines)}
        yield futures


def delete_indices(client: Client, name: str) -> None:
    """Delete the index with this name, the indices behind an alias with this name, and `deepterms-*-{name}-*`.

    Also deletes the pipelines that belong to a single index and have its name.
    """
    # Each by its full name: Elasticsearch does not delete by wildcard, and neither engine deletes by alias.
    for index in client.indices.get(index=f"{name},deepterms-*-{name}-*", ignore_unavailable=True):
        client.indices.delete(index=index)
        with suppress(elasticsearch.NotFoundError, opensearchpy.NotFoundError):  # it has no pipeline
            client.ingest.delete_pipeline(id=index)
