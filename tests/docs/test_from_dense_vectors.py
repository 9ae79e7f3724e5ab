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
    body: dict[str, Any] = {"mappings": {"properties": {"embedding": vector}}}
    Cluster(cluster).request("PUT", f"/{name}", body=body)
    centres = np.random.default_rng(3).standard_normal((30, DIMENSIONS))
    rows = np.random.default_rng(4).normal(centres.repeat(10, axis=0), 0.3)
    documents: list[dict[str, Any]] = [
        {"embedding": row.tolist(), "year": 2015 + number % 5, "updated": "2020-01-01"}
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
    if isinstance(cluster, Elasticsearch):
        compare_with_knn(names)


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
