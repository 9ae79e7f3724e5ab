"""Tests of stored vectors: the precision of float32 and int8, and what the released pipelines accept."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import InvalidInput
from deepterms.schema.vectors import (
    INT8_LEVELS,
    count_vector_bytes,
    decode_vector,
    encode_vectors,
    parse_vector_type,
    quantise_and_restore,
)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5, 64, 2048])
def test_int8_decodes_to_a_close_vector_of_norm_one(dimensions: int) -> None:
    rows = np.random.default_rng(dimensions).standard_normal((50, dimensions)).astype(np.float32)
    rows[1] *= 1e30
    rows[2] *= 1e-30
    rows[3] = 0
    rows[3, -1] = -7
    exact, kept = normalise_rows(rows), quantise_and_restore(rows, "int8")
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-6)
    # Half a level, plus the effect of scaling to norm 1.
    largest = np.abs(exact).max(axis=1, keepdims=True)
    assert np.all(np.abs(kept - exact) <= 1.01 * largest / INT8_LEVELS)
    cosines = np.einsum("nd,nd->n", kept, exact)
    assert np.all(cosines > 1 - 1e-3)
    for row, text in zip(kept, encode_vectors(rows, "int8"), strict=True):
        assert len(base64.b64decode(text)) == count_vector_bytes("int8", dimensions)
        assert decode_vector(text, "int8", dimensions=dimensions).tobytes() == row.tobytes()
        assert decode_vector(text.rstrip("="), "int8", dimensions=dimensions).tobytes() == row.tobytes()


def test_no_int8_vector_is_nan_to_the_released_pipelines() -> None:
    """They read four bytes as a float32: every level in every place must be finite, and the length a multiple of 4."""
    levels = np.arange(-INT8_LEVELS, INT8_LEVELS + 1)
    for shift in range(4):
        row = np.concatenate([np.full(shift, -INT8_LEVELS), levels, levels[::-1]]).astype(np.float32)
        (text,) = encode_vectors(row[np.newaxis], "int8")
        numbers = np.frombuffer(base64.b64decode(text), dtype="<f4")
        assert np.isfinite(numbers).all()
        np.testing.assert_allclose(
            decode_vector(text, "int8", dimensions=len(row)), row / np.linalg.norm(row), rtol=1e-6, atol=0
        )


def test_float32_keeps_every_bit() -> None:
    rows = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    for row, text in zip(quantise_and_restore(rows, "float32"), encode_vectors(rows), strict=True):
        assert decode_vector(text).tobytes() == row.tobytes()


def test_the_loss_at_2048_dimensions_is_as_documented() -> None:
    """The docstring of `create` states it."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, 2048)).astype(np.float32)
    near = normalise_rows(rows + 0.5 * rng.standard_normal(rows.shape).astype(np.float32))
    off = np.abs(np.einsum("nd,nd->n", quantise_and_restore(rows, "int8") - normalise_rows(rows), near))
    assert off.max() < 1e-3


def test_store_vectors_is_parsed() -> None:
    assert [parse_vector_type(given) for given in (True, "float32", "int8", False, None)] == [
        "float32",
        "float32",
        "int8",
        None,
        None,
    ]
    with pytest.raises(InvalidInput, match="store_vectors is 'float16'; expected True, False, 'float32' or 'int8'"):
        parse_vector_type("float16")
