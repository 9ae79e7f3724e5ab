"""The address of the cluster that a test runs on, and what deepterms has put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from elasticsearch import Elasticsearch

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected


@pytest.fixture
def url(cluster: Any) -> str:
    """Such as http://localhost:32768."""
    if isinstance(cluster, Elasticsearch):
        (node,) = cluster.transport.node_pool.all()
        return str(node.base_url)
    (host,) = cluster.transport.hosts
    return f"http://{host['host']}:{host['port']}"


@pytest.fixture
def bare(cluster: Any) -> Iterator[Any]:
    """A cluster without our resources; afterwards with them again."""
    deployed_state(cluster, delete=True)
    yield cluster
    dt.deploy(cluster, replace=True, allow_downgrade=True)


def deployed_state(client: Any, *, delete: bool = False) -> dict[str, Any]:
    """Path → body of every template and pipeline of deepterms in the cluster, without the engine's stamps."""
    cluster, state = Cluster(client), {}
    for folder in ("/_index_template/", "/_ingest/pipeline/"):
        try:
            answer = cluster.request("GET", f"{folder}deepterms-*")
        except RequestRejected as error:
            if error.status == 404:
                continue
            raise
        if "index_templates" in answer:
            answer = {found["name"]: found["index_template"] for found in answer["index_templates"]}
        for name, body in answer.items():
            stamps = {key for key in body if key.endswith(("_date", "_date_millis"))}
            state[folder + name] = {key: value for key, value in body.items() if key not in stamps}
            if delete:
                cluster.request("DELETE", folder + name)
    return state
