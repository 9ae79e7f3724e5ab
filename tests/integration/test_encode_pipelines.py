"""Tests that encode pipelines on real clusters produce exactly the Python encoder's terms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import extract_reason
from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import ClusterError, RequestRejected
from deepterms.schema.layouts import LAYOUTS, Layout, find_layout, select_default_layout
from deepterms.schema.vectors import decode_vector, encode_vector
from tests.integration.simulation import simulate

KINDS = ("normal", "tied", "sparse", "negative zero", "denormal", "huge")
FEATURES = find_layout("rank_features")  # on both engines, and without text to render


def vectors(kind: str, count: int, dimensions: int) -> NDArray[np.float64]:
    """Generate float64 (count, dimensions); no row is zero as float32."""
    rng = np.random.default_rng([KINDS.index(kind), dimensions])
    shape = (count, dimensions)
    rows = rng.standard_normal(shape)
    match kind:
        case "tied":
            rows = rng.integers(-3, 4, shape).astype(np.float64)
        case "sparse":
            rows *= rng.random(shape) < 4 / dimensions
        case "negative zero":
            rows = rng.choice([-0.0, 0.0, 1.0, -1.0], shape, p=[0.45, 0.45, 0.05, 0.05])
        case "denormal":
            rows *= 1e-42  # a few hundred multiples of the smallest float32
        case "huge":
            rows = np.clip(rows * 1e38, -3.4e38, 3.4e38)
    rows[rows.astype(np.float32).any(axis=1) == 0, dimensions // 2] = -1
    return rows


def as_numbers(row: NDArray[np.float64]) -> list[float | int]:
    """Convert numbers as clients write them: integers without a decimal point."""
    return [
        int(value) if abs(value) < 1e15 and value == int(value) and str(value) != "-0.0" else value
        for value in row.tolist()
    ]


@pytest.mark.parametrize("crelu", [True, False], ids=["crelu", "plain"])
@pytest.mark.parametrize("dimensions", [8, 64, 512, 2_048])
def test_terms_equal_those_of_the_python_encoder(cluster: Any, dimensions: int, crelu: bool) -> None:
    """1,008 vectors in total, each with every K, as an array of float64 and as base64 of float32."""
    dt.deploy(cluster)
    rows = np.concatenate([vectors(kind, 42, dimensions) for kind in KINDS])
    documents: list[dict[str, Any]] = [{"vector": as_numbers(row)} for row in rows]
    documents += [{"vector": encode_vector(row)} for row in rows.astype(np.float32)]
    for top_k in (1, 42, 100, 400):
        if top_k > dimensions:
            continue
        encoder = dt.DeepPermutation(dimensions, top_k=top_k, crelu=crelu)
        expected = encoder.encode(rows).to_terms()
        found = simulate(cluster, documents, layout=FEATURES, encoder=encoder)
        for number, (document, terms) in enumerate(zip(found, expected + expected, strict=True)):
            assert document == {"terms": terms, "codewords": terms, "id": "_id"}, (str(encoder), number)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_raw_vectors_are_indexed_as_by_the_client(cluster: Any, unique_name: str, layout: Layout) -> None:
    own = Cluster(cluster)
    if not layout.runs_on(own.engine):
        return
    dt.deploy(cluster)
    encoder = dt.DeepPermutation(64, top_k=16, binary=layout.max_term_frequency == 1)
    rows = np.concatenate([vectors(kind, 10, 64) for kind in KINDS])
    ids = [str(number) for number in range(len(rows))]
    for store_vectors in (True, False):
        created = [
            dt.SurrogateIndex.create(
                cluster,
                f"{unique_name}-{store_vectors}-{who}".lower(),
                encoder=encoder,
                layout=layout.name,
                store_vectors=store_vectors,
                replicas=0,
            )
            for who in ("pipeline", "client")
        ]
        raw, added = created
        lines = [
            ({"index": {"_id": id}}, json.dumps({"vector": as_numbers(row)})) for id, row in zip(ids, rows, strict=True)
        ]
        assert own.bulk(lines, index=raw.name).failed == []
        assert added.add(ids, rows).failed == ()
        for index in created:
            index.refresh()
        for id, row in zip(ids[::7], rows[::7], strict=True):
            found, expected = raw.get(id), added.get(id)
            assert found is not None
            assert expected is not None
            assert (found.terms, found.metadata) == (expected.terms, expected.metadata)
            np.testing.assert_array_equal(found.vector, expected.vector)
            assert raw.search(row, rerank=0).hits == added.search(row, rerank=0).hits
        (source,) = own.request("POST", f"/{raw.name}/_search", body={"size": 1})["hits"]["hits"][:1]
        assert set(source["_source"]) == ({"terms", "vector_bytes"} if store_vectors else {"terms"})


def test_the_stored_vector_is_normalised_as_by_numpy(cluster: Any) -> None:
    """Only the last bit of one component in many thousands differs, as numpy adds the squares in another order."""
    dt.deploy(cluster)
    rows = np.concatenate([vectors(kind, 42, 512) for kind in KINDS]).astype(np.float32)
    documents = [{"vector": encode_vector(row)} for row in rows]
    found = simulate(cluster, documents, layout=FEATURES, encoder=dt.DeepPermutation(512, top_k=1), vectors=True)
    stored = np.stack([decode_vector(document["vector"]) for document in found]).view(np.int32).astype(np.int64)
    difference = np.abs(stored - normalise_rows(rows).view(np.int32))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 2


def test_a_dropped_index_drops_its_pipeline(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    own = Cluster(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(8, top_k=4), replicas=0)
    concrete = index.layout.index_name(unique_name)
    setting = own.request("GET", f"/{concrete}/_settings")[concrete]["settings"]["index"]["default_pipeline"]
    assert setting == concrete
    processors = own.request("GET", f"/_ingest/pipeline/{concrete}")[concrete]["processors"]
    (parameters,) = (processor["set"]["value"] for processor in processors if "set" in processor)
    assert parameters["top_k"] == 4
    index.drop()
    with pytest.raises(RequestRejected) as absent:
        own.request("GET", f"/_ingest/pipeline/{concrete}")
    assert absent.value.status == 404


def test_without_encode_pipeline_nothing_is_created(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    own = Cluster(cluster)
    pipeline = select_default_layout(own.engine).encode_pipeline
    own.request("DELETE", f"/_ingest/pipeline/{pipeline}")
    try:
        with pytest.raises(ClusterError, match=f"pipeline {pipeline} is not in the cluster; call deepterms"):
            dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(8, top_k=4))
        assert not own.request("HEAD", f"/{unique_name}")
    finally:
        dt.deploy(cluster)


def test_an_index_with_a_rejected_pipeline_is_deleted(
    cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dt.deploy(cluster)
    real = Cluster.request

    def reject(self: Cluster, method: str, path: str, **rest: Any) -> Any:
        if method == "PUT" and path.startswith("/_ingest/pipeline/"):
            raise RequestRejected("rejected (HTTP 403): no rights", status=403)
        return real(self, method, path, **rest)

    monkeypatch.setattr(Cluster, "request", reject)
    with pytest.raises(RequestRejected, match="no rights"):
        dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(8, top_k=4))
    assert not Cluster(cluster).request("HEAD", f"/{unique_name}")


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"dimensions": "8"},
        {"dimensions": 0},
        {"dimensions": 65_537},
        {"top_k": 0},
        {"top_k": 9},
        {"top_k": 1.5},
        {"crelu": "true"},
        {"binary": None},
        {"vectors": 1},
    ],
)
def test_invalid_script_parameters_are_rejected(opensearch: Any, parameters: dict[str, Any] | None) -> None:
    """Only on OpenSearch: both engines run the same script."""
    dt.deploy(opensearch)
    usable = {"dimensions": 8, "top_k": 4, "crelu": True, "binary": False, "vectors": True}
    document: dict[str, Any] = {"vector": [1] * 8}
    if parameters is not None:
        document["encoder"] = {**usable, **parameters} if parameters else {}
    path = f"/_ingest/pipeline/{FEATURES.encode_pipeline}/_simulate"
    (answer,) = Cluster(opensearch).request("POST", path, body={"docs": [{"_source": document}]})["docs"]
    assert "[encode-vector] field [encoder] is [" in extract_reason(answer["error"])
    assert "expected whole dimensions up to 65536" in extract_reason(answer["error"])


def test_the_largest_encoder_stays_within_the_loop_limit(cluster: Any) -> None:
    dt.deploy(cluster)
    for dimensions, top_k in ((65_536, 100), (8_192, 5_000)):
        row = np.sort(vectors("normal", 1, dimensions))  # every component enters the heap
        encoder = dt.DeepPermutation(dimensions, top_k=top_k)
        wide = find_layout("words") if top_k == 100 else FEATURES
        (found,) = simulate(
            cluster, [{"vector": encode_vector(row[0].astype(np.float32))}], encoder=encoder, layout=wide
        )
        if top_k == 100:
            assert found["terms"] == encoder.encode(row).to_terms()[0]
        else:
            assert (
                "expected a whole number from 1 to 512" in found["rejected"]
            )  # encoded, and then rejected by the layout
