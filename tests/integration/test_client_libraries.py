"""opensearch-py in front of Elasticsearch: whatever an index does, the client's name makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import UnsupportedEngine

FEATURES = np.random.default_rng(2).standard_normal((20, 16)).astype(np.float32)


def test_opensearch_py_speaks_to_elasticsearch(elasticsearch: Elasticsearch, unique_name: str) -> None:
    (node,) = elasticsearch.transport.node_pool.all()
    with OpenSearch(str(node.base_url), timeout=60) as client:
        assert Cluster(client).engine == Cluster(elasticsearch).engine
        dt.deploy(client)
        index = dt.SurrogateIndex.create(client, unique_name, encoder=dt.DeepPermutation(16, top_k=6), replicas=0)
        ids = [str(number) for number in range(20)]
        assert index.add(ids, FEATURES, [{"number": number} for number in range(20)]).succeeded == 20
        index.refresh()
        same = dt.SurrogateIndex.open(elasticsearch, unique_name)
        for rerank in (0, 200):
            filter = {"range": {"metadata.number": {"lt": 10}}}
            mine = index.search(FEATURES[7], filter=filter, rerank=rerank)
            assert mine.ids[0] == "7"
            assert mine.hits == same.search(FEATURES[7], filter=filter, rerank=rerank).hits
        assert index.get("3") is not None
        assert index.delete(["3", "nothing"]).failed == ()
        index.refresh()
        assert index.count() == same.count() == 19
        index.drop()


def test_elasticsearch_py_is_told_to_give_way(opensearch: Any) -> None:
    (host,) = opensearch.transport.hosts
    with (
        Elasticsearch(f"http://{host['host']}:{host['port']}") as client,
        pytest.raises(UnsupportedEngine, match=r"for OpenSearch pass an opensearchpy\.OpenSearch client"),
    ):
        dt.deploy(client)
