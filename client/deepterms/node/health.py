"""A port to what the OpenSearch behind it says of itself."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

from deepterms.node.ports import LOCALHOST

__all__ = ["get_node_pid", "count_documents", "get_health"]


def get_node_pid(port: int) -> int | None:
    """Process id of the OpenSearch that answers there: another program may have taken the port meanwhile."""
    answer = _get(port, "/_nodes/_local/process?filter_path=nodes.*.process.id")
    nodes = list(answer.get("nodes", {}).values())
    return nodes[0]["process"]["id"] if nodes else None


def get_health(port: int) -> str | None:
    """`green`, `yellow` or `red`; None without an answer."""
    status = _get(port, "/_cluster/health").get("status")
    return status if isinstance(status, str) else None


def count_documents(port: int) -> int | None:
    """Documents in all indices; None without an answer."""
    count = _get(port, "/_count").get("count")
    return count if isinstance(count, int) else None


def _get(port: int, path: str) -> dict[str, Any]:
    """The JSON answer, or {}. No URL opener: a proxy set in the environment is not for this machine's own ports."""
    connection = HTTPConnection(LOCALHOST, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}
