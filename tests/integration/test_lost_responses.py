"""Client libraries repeat a request whose response was lost, although the engine has executed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import elastic_transport
import numpy as np
import opensearchpy
import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms import migration
from deepterms.migration.repivoting import repivot_encoder
from tests.integration.test_interruptions import check_whole, left_of

ROWS = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
IDS = [f"d{row}" for row in range(len(ROWS))]
PIVOTS = dt.PivotPermutation(dt.sample_pivots(ROWS, 16, seed=0), top_k=3, query_top_k=8)
OTHERS = dt.PivotPermutation(dt.sample_pivots(ROWS, 12, seed=1), top_k=3, query_top_k=8)


@pytest.fixture
def lossy(cluster: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client that never gets the first response to a PUT, DELETE or POST, and repeats the request."""
    lost: set[tuple[str, str]] = set()

    def loses(method: str, path: str) -> bool:
        key = (method, path.partition("?")[0])
        if method not in ("PUT", "DELETE", "POST") or key in lost:
            lost.discard(key)
            return False
        lost.add(key)
        return True

    if isinstance(cluster, Elasticsearch):
        node = elastic_transport.Urllib3HttpNode
        answer = node.perform_request

        def respond(self: Any, method: str, target: str, **options: Any) -> Any:
            response = answer(self, method, target, **options)
            if loses(method, target):
                raise elastic_transport.ConnectionError("the response was lost")
            return response

        monkeypatch.setattr(node, "perform_request", respond)
        client: Any = Elasticsearch(url, request_timeout=60)
    else:
        connection = opensearchpy.Urllib3HttpConnection
        send = connection.perform_request

        def perform(self: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
            try:
                response = send(self, method, url, *arguments, **options)
            finally:  # an error is a response too
                dropped = loses(method, url)
            if dropped:
                raise opensearchpy.ConnectionError("N/A", "the response was lost", Exception())
            return response

        monkeypatch.setattr(connection, "perform_request", perform)
        client = OpenSearch([url], timeout=60)
    dt.deploy(cluster)
    with closing(client):
        yield client


def test_own_success_is_recognised(lossy: Any, cluster: Any, unique_name: str) -> None:
    """Creating, filling, migrating, rolling back, sampling new pivots and dropping end as without any loss."""
    index = dt.SurrogateIndex.create(lossy, unique_name, encoder=PIVOTS, replicas=0)
    assert index.add(IDS, ROWS).succeeded == len(IDS)
    index.refresh()
    report = migration.migrate(lossy, unique_name, encoder=OTHERS)
    assert (report.documents, report.new != report.old) == (len(IDS), True)
    check_whole(lossy, unique_name)
    assert migration.roll_back(lossy, unique_name, discard_writes=True).new == report.old
    check_whole(lossy, unique_name)
    assert migration.migrate(lossy, unique_name, encoder=repivot_encoder(lossy, unique_name, 8), drop=True).dropped
    check_whole(lossy, unique_name)
    assert migration.drop_old(lossy, unique_name) == ()
    dt.SurrogateIndex.open(lossy, unique_name).drop()
    assert left_of(cluster, unique_name) == set()
    dt.SurrogateIndex.open_or_create(lossy, unique_name, encoder=PIVOTS, replicas=0).drop()
    assert left_of(cluster, unique_name) == set()
