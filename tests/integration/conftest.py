"""The address of the cluster that a test runs on, for what takes addresses."""

from __future__ import annotations

from typing import Any

import pytest
from elasticsearch import Elasticsearch


@pytest.fixture
def url(cluster: Any) -> str:
    """Such as http://localhost:32768."""
    if isinstance(cluster, Elasticsearch):
        (node,) = cluster.transport.node_pool.all()
        return str(node.base_url)
    (host,) = cluster.transport.hosts
    return f"http://{host['host']}:{host['port']}"
