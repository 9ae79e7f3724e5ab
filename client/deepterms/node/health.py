"""A local port into the process id, health and document count of the OpenSearch that serves it."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

from deepterms.node.ports import LOCALHOST

__all__ = ["count_documents", "get_health", "get_node_pid"]


def get_node_pid(port: int) -> int | None:
    """Get the process id of the OpenSearch on a port; None without a response, or if another program has the port."""
    response = _get(port, "/_nodes/_local/process?filter_path=nodes.*.process.id")
    nodes = list(response.get("nodes", {}).values())
    return nodes[0]["process"]["id"] if nodes else None


def get_health(port: int) -> str | None:
    """Get the cluster health: `green`, `yellow` or `red`; None without a response."""
    status = _get(port, "/_cluster/health").get("status")
    return status if isinstance(status, str) else None


def count_documents(port: int) -> int | None:
    """Count the documents of all indices; None without a response."""
    count = _get(port, "/_count").get("count")
    return count if isinstance(count, int) else None


def _get(port: int, path: str) -> dict[str, Any]:
    """Return the JSON response, or {}. Uses no proxy from the environment, as urllib would for local ports."""
    connection = HTTPConnection(LOCALHOST, port, timeout=5)
    try:
        connection.request("GET", path)
        response = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return response if isinstance(response, dict) else {}
