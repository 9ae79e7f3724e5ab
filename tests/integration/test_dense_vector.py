"""Tests of indices with Elasticsearch's vector field: creating, opening and migrating them, and invalid options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deepterms as dt
from deepterms.cli.app import app
from deepterms.cluster.cluster import Cluster
from deepterms.errors import IndexNotFound, InvalidInput, UnsupportedEngine
from deepterms.migration import migrate, roll_back
from deepterms.schema import scripts
from deepterms.schema.layouts import find_layout

DIMENSIONS = 32
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=8)
ROWS = np.random.default_rng(5).standard_normal((40, DIMENSIONS)).astype(np.float32)
IDS = [f"d{number}" for number in range(len(ROWS))]


def created(client: Any, name: str, **options: Any) -> dt.SurrogateIndex:
    dt.deploy(client)
    index = dt.SurrogateIndex.create(client, name, **{"encoder": ENCODER, "replicas": 0, **options})
    assert index.add(IDS, ROWS).failed == ()
    index.refresh()
    return index


def with_field(index: dt.SurrogateIndex) -> int:
    """Count the documents that have the field; 0 if the index does not have it."""
    body = {"query": {"exists": {"field": "dense_vector"}}}
    return int(index.cluster.request("POST", f"/{index.name}/_count", body=body)["count"])


def scores(index: dt.SurrogateIndex) -> dict[str, float]:
    return {hit.id: hit.score for hit in index.search(ROWS[3], k=len(ROWS))}


def sources(index: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the scripts of one search."""
    sent: list[str] = []
    real = index.cluster.request

    def noted(method: str, path: str, **options: Any) -> Any:
        sent.append(json.dumps(options.get("body")))
        return real(method, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(index.cluster, "request", noted)
        index.search(ROWS[0])
    return [source for source in ("dotProduct", "doc['vector']") if any(source in body for body in sent)]


def test_another_client_finds_the_field(elasticsearch: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = created(elasticsearch, unique_name, dense_vector=True)
    opened = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (index.dense_vector, opened.dense_vector, with_field(opened)) == (True, True, len(ROWS))
    assert sources(opened, monkeypatch) == ["dotProduct"]
    (concrete,) = index.concrete
    answer = index.cluster.request("GET", f"/{concrete}")[concrete]["mappings"]
    assert answer["_meta"]["deepterms"]["dense_vector"] is True
    # The template's own fields and exclusions from _source are kept.
    assert answer["_source"]["excludes"] == ["codewords", "id", "vector", "dense_vector"]
    assert {"vector", "codewords", "metadata", "dense_vector"} <= answer["properties"].keys()
    document = index.cluster.request("GET", f"/{unique_name}/_doc/d3")
    assert set(document["_source"]) == {"terms", "vector_bytes"}
    stored = opened.get("d3")
    assert stored is not None
    assert stored.vector is not None
    assert np.allclose(stored.vector, ROWS[3] / np.linalg.norm(ROWS[3]))
    # The pipeline overwrites a dense_vector that a document contains.
    body = {"vector": ROWS[0].tolist(), "dense_vector": [0.0] * DIMENSIONS}
    index.cluster.request("PUT", f"/{unique_name}/_doc/own", body=body, params={"refresh": True})
    assert opened.search(ROWS[0], k=2)[1].score == pytest.approx(1, abs=1e-6)


def test_an_index_without_the_field_is_unchanged(
    cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = created(cluster, unique_name)
    (answer,) = index.cluster.request("GET", f"/{unique_name}/_mapping").values()
    assert "dense_vector" not in answer["mappings"]["_meta"]["deepterms"]
    assert "dense_vector" not in answer["mappings"]["properties"]
    assert (index.dense_vector, with_field(index)) == (False, 0)
    assert sources(index, monkeypatch) == ["doc['vector']"]


def test_options_that_exclude_the_field_are_rejected(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"store_vectors": "int8"}, InvalidInput, "requires float32 vectors, but the index stores int8 vectors"),
        ({"store_vectors": False}, InvalidInput, "requires float32 vectors, but the index stores no vectors"),
        ({"encoder": dt.DeepPermutation(4_097, top_k=8)}, InvalidInput, "at most 4,096 dimensions.*have 4,097"),
    ]
    if Cluster(cluster).engine.name == "opensearch":
        cases = [({}, UnsupportedEngine, r"OpenSearch \d.* has no dense_vector; omit dense_vector")]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            dt.SurrogateIndex.create(cluster, unique_name, **{"encoder": ENCODER, "dense_vector": True, **options})
        with pytest.raises(IndexNotFound):
            dt.SurrogateIndex.open(cluster, unique_name)
    created(cluster, unique_name, store_vectors=False)
    with pytest.raises((InvalidInput, UnsupportedEngine), match="omit"):
        migrate(cluster, unique_name, dense_vector=True)


def test_a_server_that_forbids_the_function_is_reported(
    elasticsearch: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dt.deploy(elasticsearch)
    source = scripts.COSINE_SOURCES["dense_vector"].replace("dotProduct", "noProduct")
    monkeypatch.setattr(scripts, "COSINE_SOURCES", {**scripts.COSINE_SOURCES, "dense_vector": source})
    with pytest.raises(UnsupportedEngine, match=r"does not allow scripts to compare vectors.*noProduct"):
        dt.SurrogateIndex.create(elasticsearch, unique_name, encoder=ENCODER, dense_vector=True)
    with pytest.raises(IndexNotFound):
        dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert not [name for name in elasticsearch.ingest.get_pipeline() if unique_name in name]


def test_migration_to_and_from_the_field(elasticsearch: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = created(elasticsearch, unique_name)
    expected: Any = pytest.approx(scores(index), abs=1e-6)
    assert migrate(elasticsearch, unique_name, dense_vector=True).copied == len(ROWS)
    dense = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (dense.dense_vector, with_field(dense), scores(dense)) == (True, len(ROWS), expected)
    assert scores(index) == expected  # opened before; an empty response makes it read the state again
    assert migrate(elasticsearch, unique_name, dense_vector=True).old == ""  # nothing to do
    # Migrations to another encoder or layout keep the field unless told otherwise.
    encoder = dt.DeepPermutation(DIMENSIONS, top_k=12)
    migrate(elasticsearch, unique_name, encoder=encoder, to=find_layout("rank_features"))
    dense = dt.SurrogateIndex.open(elasticsearch, unique_name, encoder=encoder)
    assert (dense.dense_vector, with_field(dense), sources(dense, monkeypatch)) == (True, len(ROWS), ["dotProduct"])
    assert dense.verify(sample=20).ok
    migrate(elasticsearch, unique_name, dense_vector=False, drop=True)
    plain = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (plain.dense_vector, with_field(plain), sources(plain, monkeypatch)) == (False, 0, ["doc['vector']"])
    assert dense.reopen()
    assert not dense.dense_vector
    with pytest.raises(dt.errors.MigrationFailed, match="was deleted"):
        roll_back(elasticsearch, unique_name)


def test_the_command(elasticsearch: Any, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (address,) = (node.base_url for node in elasticsearch.transport.node_pool.all())
    monkeypatch.setenv("DEEPTERMS_URL", address)
    np.save(tmp_path / "rows.npy", ROWS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))

    def run(*arguments: str) -> None:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output

    run(
        "index", unique_name, str(tmp_path / "rows.npy"), "--ids", str(tmp_path / "ids.txt"), "--top-k", "8",
        "--replicas", "0", "--dense-vector",
    )  # fmt: skip
    assert with_field(dt.SurrogateIndex.open(elasticsearch, unique_name)) == len(ROWS)
    run("migrate", unique_name, "--no-dense-vector")
    assert not dt.SurrogateIndex.open(elasticsearch, unique_name).dense_vector
