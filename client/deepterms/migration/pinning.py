"""Pinning: documents that passed an index's pipeline are written to that index and no other.

A bulk request looks up an alias twice: for the pipeline, and again, after the pipeline has run, for the index. If the
alias moves between the two, documents rendered for the old index land in the new one, where nobody finds them. So the
old index's pipeline is made to write the index's own name into each document. Requests whose documents had passed it
before that are awaited.
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
BULK_ACTION = "indices:data/write/bulk"  # single documents are written by it too
PATIENCE_SECONDS = 120
POLL_SECONDS = 0.1


@contextmanager
def pinned(cluster: Cluster, concrete: str) -> Iterator[set[str]]:
    """Make an index's pipeline keep documents in that index; undone only if something goes wrong inside.

    Yields:
        the bulk requests, for `await_requests`, whose documents may have passed the pipeline before.
    """
    try:
        _pin(cluster, concrete)
        yield _running_requests(cluster)
    except BaseException:
        unpin(cluster, concrete)
        raise


def unpin(cluster: Cluster, concrete: str) -> None:
    """Undo `pinned`; an index that is not pinned stays as it is."""
    settings = cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"]
    if settings["default_pipeline"] == concrete:
        body = _pipeline(cluster, concrete)
        _put(cluster, concrete, {**body, "processors": _others(body)})


def await_requests(cluster: Cluster, requests: set[str]) -> None:
    """Return when none of these requests runs any more.

    Raises:
        MigrationFailed: one runs for two minutes.
    """
    started = time.monotonic()
    while requests & _running_requests(cluster):
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise MigrationFailed(
                f"a bulk request has been running for more than {PATIENCE_SECONDS} s, and may have been made for the "
                "old index; run this again when it is done (GET _tasks?actions=*bulk lists it)"
            )
        time.sleep(POLL_SECONDS)


def _pin(cluster: Cluster, concrete: str) -> None:
    settings = cluster.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"]
    pipeline = settings["default_pipeline"]
    processor = {"set": {"tag": TAG, "field": "_index", "value": concrete}}
    if pipeline == concrete:
        body = _pipeline(cluster, concrete)
        body["processors"] = [processor, *_others(body)]
        _put(cluster, concrete, body)
    else:  # the layout's, which other indices share
        _put(cluster, concrete, {"processors": [processor, {"pipeline": {"tag": "layout", "name": pipeline}}]})
        cluster.request("PUT", f"/{concrete}/_settings", body={"index": {"default_pipeline": concrete}})


def _running_requests(cluster: Cluster) -> set[str]:
    """The bulk requests that the cluster is at work on."""
    answer = cluster.request("GET", "/_tasks", params={"actions": BULK_ACTION})
    return {task for node in answer["nodes"].values() for task in node["tasks"]}


def _pipeline(cluster: Cluster, name: str) -> dict[str, Any]:
    body = dict(cluster.request("GET", f"/_ingest/pipeline/{name}")[name])
    return {key: value for key, value in body.items() if key in ("description", "version", "processors")}


def _put(cluster: Cluster, name: str, body: dict[str, Any]) -> None:
    cluster.request("PUT", f"/_ingest/pipeline/{name}", body=body)


def _others(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [processor for processor in body["processors"] if processor.get("set", {}).get("tag") != TAG]
