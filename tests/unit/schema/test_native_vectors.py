"""Tests of native vectors: when they are chosen, how they are encoded, and how stored ones are restated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.engine import Engine
from deepterms.encoders.inputs import normalise_rows
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import ClusterError, InvalidInput, UnsupportedEngine
from deepterms.schema.index_spec import IndexMeta, IndexSpec
from deepterms.schema.native_vectors import encode_native_vectors, split_query
from deepterms.schema.stored_documents import read_vector, restate_vector
from deepterms.schema.vectors import decode_vector, encode_vectors, quantise_and_restore

ROWS = np.random.default_rng(4).standard_normal((20, 2_048)).astype(np.float32)
PIVOTS = dt.PivotPermutation(Pivots(ROWS), top_k=2, query_top_k=4)
NEW = Engine("elasticsearch", (9, 2, 0))


def test_pivots_are_compared_natively_where_the_engine_can() -> None:
    spec = IndexSpec.choose(NEW, PIVOTS)
    assert (spec.compare, spec.vector_type, spec.compared_by, spec.sketch) == ("native", "int8", "native", False)
    assert IndexSpec.choose(NEW, PIVOTS, store_vectors="int8") == spec
    meta = IndexMeta.parse(spec.to_meta(), name="a")
    assert IndexSpec.from_meta(meta, encoder=PIVOTS) == spec
    assert IndexSpec.choose(NEW, PIVOTS, compare="script").fingerprint != spec.fingerprint


@pytest.mark.parametrize(
    ("engine", "encoder", "options"),
    [
        (Engine("elasticsearch", (9, 1, 9)), PIVOTS, {}),
        (Engine("elasticsearch", (8, 19, 0)), PIVOTS, {}),
        (Engine("opensearch", (3, 8, 0)), PIVOTS, {}),
        (NEW, PIVOTS, {"store_vectors": "float32"}),
        (NEW, PIVOTS, {"sketch": True}),
        (NEW, PIVOTS, {"rerank": 0}),
        (NEW, PIVOTS, {"layout": "words"}),
        (NEW, PIVOTS, {"compare": "script"}),
        (NEW, replace(PIVOTS, weights="ranks", spill="nearest"), {}),
        (NEW, dt.DeepPermutation(16, top_k=4, binary=True), {}),
        (NEW, dt.PivotPermutation(Pivots(np.eye(4, 4_097, dtype=np.float32)), top_k=2, query_top_k=2), {}),
    ],
)
def test_other_indices_are_compared_by_scripts(engine: Engine, encoder: Any, options: dict[str, Any]) -> None:
    options = dict(options)
    spec = IndexSpec.choose(engine, encoder, **options)
    assert (spec.compare, spec.vector_type) == ("script", "float32")
    assert "compare" not in spec.to_meta()
    options.pop("sketch", None)
    assert IndexSpec.choose(engine, encoder, **{**options, "store_vectors": False}).compared_by is None


@pytest.mark.parametrize(
    ("engine", "encoder", "options", "why"),
    [
        (Engine("opensearch", (3, 8, 0)), PIVOTS, {}, "needs Elasticsearch 9.2 or later, not OpenSearch 3.8.0"),
        (Engine("elasticsearch", (9, 1, 9)), PIVOTS, {}, "needs Elasticsearch 9.2 or later"),
        (NEW, PIVOTS, {"store_vectors": "float32"}, "float32 vectors; omit store_vectors"),
        (NEW, PIVOTS, {"store_vectors": False}, "no vectors; omit store_vectors"),
        (NEW, PIVOTS, {"sketch": True}, "omit sketch"),
        (NEW, PIVOTS, {"layout": "words"}, "in the layout words"),
        (NEW, dt.DeepPermutation(16, top_k=4, binary=True), {}, "for binary pivot codewords"),
        (NEW, replace(PIVOTS, weights="ranks", spill="nearest"), {}, "for binary pivot codewords"),
        (NEW, PIVOTS, {"compare": "fast"}, "compare is 'fast'; expected 'native', 'script' or None"),
    ],
)
def test_what_cannot_be_native_is_explained(engine: Engine, encoder: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises((InvalidInput, UnsupportedEngine), match=why):
        IndexSpec.choose(engine, encoder, **{"compare": "native", **options})


def test_indices_of_the_former_option_are_explained() -> None:
    meta = IndexSpec.choose(NEW, PIVOTS, compare="script").to_meta() | {"dense_vector": True}
    with pytest.raises(ClusterError, match="compare='native' replaces"):
        IndexMeta.parse(meta, name="a")


def test_native_vectors_hold_the_numbers_of_int8_vectors() -> None:
    texts = encode_native_vectors(ROWS)
    assert {len(text) for text in texts} == {2 * 2_048}
    numbers = [np.frombuffer(bytes.fromhex(text), dtype=np.int8).tolist() for text in texts]
    assert max(map(max, numbers)) == 126
    assert min(map(min, numbers)) == -126
    decoded = np.stack([decode_vector(row, "int8", dimensions=2_048) for row in numbers])
    assert np.array_equal(decoded, quantise_and_restore(ROWS, "int8"))
    hit = {"fields": {"vector": [numbers[0]]}}  # as Elasticsearch returns the doc value
    read = read_vector(hit, "int8", dimensions=2_048)
    assert read is not None
    assert np.array_equal(read, decoded[0])


@pytest.mark.parametrize("dimensions", [1, 3, 64, 4_096])
def test_three_parts_of_a_query_are_as_exact_as_float32(dimensions: int) -> None:
    rows = np.random.default_rng(dimensions).standard_normal((5, dimensions)).astype(np.float32)
    for query in normalise_rows(np.concatenate([rows, -(rows**3), np.eye(1, dimensions, dtype=np.float32)])):
        parts = split_query(query)
        assert [part.dtype for part, _ in parts] == [np.int8] * 3
        total = sum(weight * part.astype(np.float64) for part, weight in parts)
        np.testing.assert_allclose(total, query, atol=float(np.abs(query).max()) * 2**-23, rtol=0)


def test_vectors_are_restated_without_loss_where_both_indices_store_the_same_numbers() -> None:
    native = IndexSpec.choose(NEW, PIVOTS)
    int8 = IndexSpec.choose(NEW, PIVOTS, compare="script", store_vectors="int8")
    float32 = IndexSpec.choose(NEW, PIVOTS, compare="script")
    for row in ROWS:
        (wide,), (narrow,), (text,) = (
            encode_vectors(row[None]),
            encode_vectors(row[None], "int8"),
            encode_native_vectors(row[None]),
        )
        levels = np.frombuffer(bytes.fromhex(text), dtype=np.int8).tolist()
        assert restate_vector(levels, "int8", spec=native) == text
        assert restate_vector(levels, "int8", spec=int8) == narrow
        assert restate_vector(narrow.rstrip("="), "int8", spec=native) == text
        assert restate_vector(wide.rstrip("="), "float32", spec=native) == text
        assert restate_vector(wide.rstrip("="), "float32", spec=float32) == wide
    for short in (encode_vectors(ROWS[:1, :4])[0], "AAAAAA=="):
        with pytest.raises(InvalidInput, match="expected 2048"):
            restate_vector(short, "float32", spec=native)
