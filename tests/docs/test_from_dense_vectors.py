"""docs/from-dense-vectors.md: its code moves an index on both engines; only addresses and names are replaced."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch, helpers
from opensearchpy import helpers as opensearch_helpers

import deepterms as dt
from deepterms.cluster.cluster import Cluster

PAGE = (Path(__file__).parents[2] / "docs" / "from-dense-vectors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DIMENSIONS = 16
OPENSEARCH = {  # what the comments of the page say about the other engine
    "import Elasticsearch, helpers": "import Elasticsearch",
    '{"_source": {"exclude_vectors": False}}': "{}",
}


@pytest.fixture
def old(cluster: Any, unique_name: str) -> str:
    """An index of 300 documents with vectors; one more has none, another has zeros."""
    name = f"{unique_name}-old"
    elastic = isinstance(cluster, Elasticsearch)
    # The tests' OpenSearch has no k-NN plugin: the numbers are in _source only, where the plugin keeps them too.
    vector: dict[str, Any] = {"type": "float", "index": False}
    if elastic:  # of float32, so that its scores can be compared
        options = {"index": True, "index_options": {"type": "hnsw"}}
        vector = {"type": "dense_vector", "dims": DIMENSIONS, "similarity": "cosine", **options}
    # The tests' Elasticsearch is built without the module of scaled_float.
    price = {"type": "double"} if elastic else {"type": "scaled_float", "scaling_factor": 100}
    fields = {
        "embedding": vector,
        "updated": {"type": "date", "format": "yyyy-MM-dd"},
        "seen": {"type": "date", "format": "dd.MM.yyyy||epoch_second"},
        "price": price,
        "caption": {"type": "text", "analyzer": "folded", "fields": {"raw": {"type": "keyword", "ignore_above": 40}}},
        "place": {"type": "geo_point"},
        "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}, "count": {"type": "integer"}}},
        "label": {"type": "alias", "path": "caption.raw"},
        "words": {"type": "text"},
        "author": {"properties": {"name": {"type": "keyword", "copy_to": "words"}}},
    }
    folded = {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "asciifolding"]}
    body: dict[str, Any] = {
        "settings": {"analysis": {"analyzer": {"folded": folded}}, "index.mapping.total_fields.limit": 1_500},
        "mappings": {"properties": fields},
    }
    Cluster(cluster).request("PUT", f"/{name}", body=body)
    centres = np.random.default_rng(3).standard_normal((30, DIMENSIONS))
    rows = np.random.default_rng(4).normal(centres.repeat(10, axis=0), 0.3)
    documents: list[dict[str, Any]] = [
        {
            "embedding": row.tolist(),
            "year": 2015 + number % 5,
            "updated": "2020-01-01",
            "seen": ["31.01.2024", 1_700_000_000, "01.03.2024"][number % 3],
            "price": [19.9, 20, 0.5][number % 3],
            "caption": ["The Élan of a tower", "a tower by the sea", "x" * 50][number % 3],
            "place": [{"lat": 43.7, "lon": 10.4}, "48.1,11.6", [2.3, 48.9]][number % 3],
            "parts": [{"name": "door", "count": number % 2}, {"name": "roof", "count": 1}],
            "author": {"name": f"Ada {number % 3}"},
        }
        for number, row in enumerate(rows)
    ]
    documents.append({"year": 2018})
    if not elastic:  # Elasticsearch rejects it where the similarity is the cosine
        documents.append({"embedding": [0.0] * DIMENSIONS})
    actions = [{"_index": name, "_id": f"p{number}", "_source": body} for number, body in enumerate(documents)]
    (helpers if elastic else opensearch_helpers).bulk(cluster, actions, refresh=True)
    return name


def test_the_code(cluster: Any, unique_name: str, old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"cluster": cluster}
    swaps = {'"old-photos"': f'"{old}"', '"photos"': f'"{unique_name}"'}
    if not isinstance(cluster, Elasticsearch):
        swaps |= OPENSEARCH
        names["helpers"] = opensearch_helpers
    read, *others = BLOCKS
    read = re.sub(r"^cluster = .*\n", "", read, flags=re.MULTILINE)
    printed = io.StringIO()
    before_the_last_pass, search = others[:-2], others[-2:]
    with contextlib.redirect_stdout(printed):
        for block in (read, *before_the_last_pass):
            run(block, swaps, names)
        # Meanwhile one document is deleted, and two are new, one of them with a new timestamp.
        new = {"embedding": [1.0] * DIMENSIONS, "year": 2019}
        for path, body in (("late", {**new, "updated": "2100-01-01"}), ("unstamped", new)):
            Cluster(cluster).request("PUT", f"/{old}/_doc/{path}", body=body)
        Cluster(cluster).request("DELETE", f"/{old}/_doc/p7")
        Cluster(cluster).request("POST", f"/{old}/_refresh")
        for block in search:
            run(block, swaps, names)
    recall, moved, *found = printed.getvalue().splitlines()
    assert (recall.split()[0], recall.split()[2:]) == ("R@10", ["of", "300", "documents"])
    assert float(recall.split()[1]) > 0.95
    assert moved == "300 moved; 0 rejected: ()"
    assert (names["late"].succeeded, names["compared"].missing, names["compared"].extra) == (1, ("unstamped",), ("p7",))
    assert (names["missing"].succeeded, names["index"].count()) == (1, 301)
    assert len(found) == 10
    assert all("'year': 20" in line for line in found)
    check_filters(names)
    if isinstance(cluster, Elasticsearch):
        compare_with_knn(names)


FILTERS: list[dict[str, Any]] = [
    {"range": {"seen": {"gte": "01.02.2024"}}},
    {"range": {"seen": {"lte": "2024-01", "format": "yyyy-MM"}}},
    {"range": {"seen": {"lt": "31.01.2024||+1d/d"}}},
    {"range": {"updated": {"lt": "now-1d"}}},
    {"term": {"price": 19.9}},
    {"range": {"price": {"gt": 0.5, "lte": 19.9}}},
    {"match": {"caption": "elan"}},
    {"match_phrase": {"caption": "by the sea"}},
    {"prefix": {"caption.raw": "The"}},
    {"exists": {"field": "caption.raw"}},
    {"prefix": {"label": "a tower"}},
    {"match": {"words": "ada"}},
    {"geo_distance": {"distance": "5km", "place": {"lat": 43.7, "lon": 10.4}}},
    {"nested": {"path": "parts", "query": {"bool": {"filter": [
        {"term": {"parts.name": "door"}}, {"term": {"parts.count": 1}}]}}}},
    {"term": {"author.name": "Ada 1"}},
    {"term": {"year": 2018}},
]  # fmt: skip


def move_filter(query: Any, fields: Any) -> Any:
    """Put ``metadata.`` before the names of fields, as the page says."""
    if isinstance(query, list):
        return [move_filter(part, fields) for part in query]
    if isinstance(query, dict):
        return {
            f"metadata.{key}" if key.split(".")[0] in fields else key: f"metadata.{value}"
            if key in ("path", "field")
            else move_filter(value, fields)
            for key, value in query.items()
        }
    return query


def check_filters(names: dict[str, Any]) -> None:
    """The same filters keep the same documents as in the old index, among those with a vector."""
    old, index = Cluster(names["cluster"]), names["index"]
    fields = {*index.spec.schema, "year"}
    for query in FILTERS:
        body = {"query": query, "size": 1_000, "_source": ["embedding"]}
        body |= names["whole"] and {"_source": {"includes": ["embedding"], "exclude_vectors": False}}
        hits = old.request("POST", f"/{names['old']}/_search", body=body)["hits"]["hits"]
        before = {hit["_id"] for hit in hits if any(hit["_source"].get("embedding", []))}
        moved = move_filter(query, fields)
        after = index.search_many(names["features"][:1], k=1_000, filter=moved, rerank=1_000)[0].ids
        assert index.count(filter=moved) == len(before) > 0, query
        assert set(after) == before, query


def run(block: str, swaps: dict[str, str], names: dict[str, Any]) -> None:
    for text, other in swaps.items():
        block = block.replace(text, other)
    exec(compile(block, "docs/from-dense-vectors.md", "exec"), names)


def compare_with_knn(names: dict[str, Any]) -> None:
    """Check the table: the same search by k-NN, and its formula of scores."""
    vector = names["features"][0].tolist()
    knn = {"field": "embedding", "query_vector": vector, "k": 10, "num_candidates": 100}
    before = names["cluster"].search(index=names["old"], knn=knn, size=10)["hits"]["hits"]
    here = names["index"].search(vector, k=10, rerank=1000)
    assert before[0]["_id"] == here.ids[0]
    assert len({hit["_id"] for hit in before} & set(here.ids)) >= 8
    assert 2 * before[0]["_score"] - 1 == pytest.approx(here[0].score, abs=2e-3)


def test_the_table_names_what_exists() -> None:
    for name in re.findall(r"`(?:index|dt)\.(\w+)", PAGE):
        assert hasattr(dt.SurrogateIndex, name) or hasattr(dt, name), name
