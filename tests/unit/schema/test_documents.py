from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import InvalidInput
from deepterms.schema.documents import build_bulk_lines, check_batch
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import find_layout
from deepterms.schema.vectors import decode_vector, encode_vector


def test_bulk_lines_contain_terms_vector_and_metadata() -> None:
    rows = np.array([[3, 0, -4, 0], [0, 1, 0, 0]], dtype=np.float32)
    spec = IndexSpec(DeepPermutation(4, top_k=2), find_layout("words"))
    batch = check_batch(["a/ü", 'b"'], rows, [{"path": "é\n"}, {}], encoder=spec.encoder)
    first, second = build_bulk_lines(batch, spec)
    assert first[0] == {"index": {"_id": "a/ü"}}
    source = json.loads(first[1] or "")
    np.testing.assert_array_equal(decode_vector(source.pop("vector")), np.array([0.6, 0, -0.8, 0], dtype=np.float32))
    assert source == {"terms": {"t6": 2, "t0": 1}, "metadata": {"path": "é\n"}}
    marked = build_bulk_lines(batch, replace(spec, vector_type=None), fingerprint="0123abcd")
    assert json.loads(marked[1][1] or "") == {"terms": {"t1": 2}, "fingerprint": "0123abcd"}
    assert second[0] == {"index": {"_id": 'b"'}}


def test_vectors_decode_with_and_without_padding() -> None:
    vector = np.array([1.5, -0.0, 1e-42, 3e38, 7], dtype=np.float32)
    assert decode_vector(encode_vector(vector)).tobytes() == vector.tobytes()
    assert decode_vector(encode_vector(vector).rstrip("=")).tobytes() == vector.tobytes()


def test_huge_and_tiny_rows_are_normalised() -> None:
    rows = np.array([[3e38, 3e38], [1e-44, 0], [3, 4]], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(normalise_rows(rows).astype(np.float64), axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        ("", "1 to 512 bytes"),
        ("é" * 257, "got 514"),
        (None, "an id is a text or an integer; got NoneType"),
        (b"a", "got bytes"),
        (True, "got bool"),
        (7.0, "got float"),
        ("\ud800", "id"),
    ],
)
def test_an_unusable_id_is_reported(identifier: Any, reason: str) -> None:
    batch = check_batch([identifier, "good"], np.eye(2), None, encoder=DeepPermutation(2, top_k=1))
    assert batch.ids == ["good"]
    np.testing.assert_array_equal(batch.content, [[0, 1]])
    (failure,) = batch.failed
    assert reason in failure.reason


@pytest.mark.parametrize("bad", [{"x": {1, 2}}, {"x": float("inf")}, {3: 4}, {"x": object()}])
def test_metadata_that_is_not_json_is_reported(bad: dict[Any, Any]) -> None:
    batch = check_batch(
        ["a", "b"], np.eye(2), [bad, {"fine": [1, None, {"x": "y"}]}], encoder=DeepPermutation(2, top_k=1)
    )
    assert batch.ids == ["b"]
    assert batch.failed[0].id == "a"


@pytest.mark.parametrize(
    ("ids", "metadata", "message"),
    [
        (["a"], None, "aligned by position; got 1 ids, 2 features"),
        (["a", "b"], [{}], "2 ids, 2 features, 1 metadata"),
        ("ab", None, "one text"),
    ],
)
def test_arguments_of_different_lengths_are_rejected(ids: Any, metadata: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_batch(ids, np.eye(2), metadata, encoder=DeepPermutation(2, top_k=1))
