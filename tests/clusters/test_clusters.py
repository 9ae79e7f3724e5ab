"""The clusters have what surrogate text needs: scripted similarity, exact scores, script processors."""

from __future__ import annotations

from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

from tests.clusters.containers import delete_indices

SETTINGS = {
    "similarity": {
        "inner_product": {
            "type": "scripted",
            "weight_script": {"source": "return query.boost;"},
            "script": {"source": "return weight * doc.freq;"},
        }
    }
}
MAPPINGS = {
    "properties": {
        "terms": {
            "type": "text",
            "analyzer": "whitespace",
            "similarity": "inner_product",
            "norms": False,
            "index_options": "freqs",
        }
    }
}


def test_score_is_the_inner_product(cluster: OpenSearch | Elasticsearch, unique_name: str) -> None:
    cluster.indices.create(index=unique_name, body={"settings": SETTINGS, "mappings": MAPPINGS})
    cluster.index(index=unique_name, id="only", body={"terms": "a a a b b c"}, refresh=True)
    should = [{"term": {"terms": {"value": term, "boost": boost}}} for term, boost in [("a", 5), ("b", 7), ("d", 11)]]
    answer = cluster.search(index=unique_name, body={"query": {"bool": {"should": should}}})
    assert [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]] == [("only", 5 * 3 + 7 * 2)]


def test_script_processor(cluster: OpenSearch | Elasticsearch) -> None:
    script = "ctx.terms = String.join(' ', Collections.nCopies(ctx.frequency, 'a'))"
    answer = cluster.ingest.simulate(
        body={
            "pipeline": {"processors": [{"script": {"source": script}}]},
            "docs": [{"_source": {"frequency": 3}}],
        }
    )
    assert answer["docs"][0]["doc"]["_source"]["terms"] == "a a a"


def test_indices_of_a_test_are_deleted(cluster: OpenSearch | Elasticsearch, unique_name: str) -> None:
    for index in (
        f"deepterms-text-{unique_name}-000001",
        f"deepterms-text-{unique_name}-000002",
        f"{unique_name}-other",
    ):
        cluster.indices.create(index=index)
    cluster.indices.put_alias(index=f"deepterms-text-{unique_name}-000002", name=unique_name)
    delete_indices(cluster, unique_name)
    try:
        assert list(cluster.indices.get(index=f"*{unique_name}*")) == [f"{unique_name}-other"]
    finally:
        cluster.indices.delete(index=f"{unique_name}-other")
