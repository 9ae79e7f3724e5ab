"""Pinning: makes an index's pipeline write its documents to that index only, even if the alias moves meanwhile.

A bulk request resolves an alias twice: for the pipeline, and, after the pipeline has run, for the index. If the alias
moves between the two, documents rendered for the old index end up in the new one, where no search finds them. So the
old index's pipeline is changed to set ``_index`` of each document to its own index. Requests whose documents may have
passed the pipeline before that change are awaited.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.errors import MigrationFailed

__all__ = ["await_requests", "pinned", "unpin"]

TAG = "pin-index"
BULK_ACTION = "indices:data/write/bulk"  # engines also use it for requests with a single document
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.1


@contextmanager
def pinned(cluster: Cluster, concrete: str) -> Iterator[set[str]]:
    """Make an index's pipeline keep documents in that index; undone only if the body raises an exception.

    Yields:
        the bulk requests whose documents may have passed the pipeline before the change, for `await_requests`.
    """
    try:
        _pin(cluster, concrete)
        yield _running_requests(cluster)
    except BaseException:
        unpin(cluster, concrete)
        raise


def unpin(cluster: Cluster, concrete: str) -> None:
    """Undo `pinned`; does nothing if the index is not pinned."""
    settings = cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"]
    if settings["default_pipeline"] == concrete:
        body = _read_pipeline(cluster, concrete)
        _put(cluster, concrete, {**body, "processors": _list_other_processors(body)})


def await_requests(cluster: Cluster, requests: set[str]) -> None:
    """Wait until all of these requests have finished.

    Raises:
        MigrationFailed: one is still running after two minutes.
    """
    started = time.monotonic()
    while requests & _running_requests(cluster):
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise MigrationFailed(
                f"a bulk request, possibly to the old index, has been running for more than {PATIENCE_SECONDS} s; "
                "rerun when it has finished (GET _tasks?actions=*bulk lists it)"
            )
        time.sleep(POLL_SECONDS)


def _pin(cluster: Cluster, concrete: str) -> None:
    settings = cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"]
    pipeline = settings["default_pipeline"]
    processor = {"set": {"tag": TAG, "field": "_index", "value": concrete}}
    if pipeline == concrete:
        body = _read_pipeline(cluster, concrete)
        body["processors"] = [processor, *_list_other_processors(body)]
        _put(cluster, concrete, body)
    else:  # the layout's pipeline, which other indices share
        _put(cluster, concrete, {"processors": [processor, {"pipeline": {"tag": "layout", "name": pipeline}}]})
        cluster.request("PUT", f"/{concrete}/_settings", body={"index": {"default_pipeline": concrete}})


def _running_requests(cluster: Cluster) -> set[str]:
    """List the bulk requests that are running in the cluster."""
    answer = cluster.request("GET", "/_tasks", params={"actions": BULK_ACTION})
    return {task for node in answer["nodes"].values() for task in node["tasks"]}


def _read_pipeline(cluster: Cluster, name: str) -> dict[str, Any]:
    body = dict(cluster.request("GET", f"/_ingest/pipeline/{name}")[name])
    return {key: value for key, value in body.items() if key in ("description", "version", "processors")}


def _put(cluster: Cluster, name: str, body: dict[str, Any]) -> None:
    cluster.request("PUT", f"/_ingest/pipeline/{name}", body=body)


def _list_other_processors(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [processor for processor in body["processors"] if processor.get("set", {}).get("tag") != TAG]
