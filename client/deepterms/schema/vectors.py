"""Stored vectors: descriptors as the bytes that an index keeps for exact re-ranking, in float32 or int8."""

from __future__ import annotations

import base64
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import ClusterError, InvalidInput

__all__ = [
    "INT8_LEVELS",
    "StoreVectors",
    "VectorType",
    "count_vector_bytes",
    "decode_vector",
    "encode_vector",
    "encode_vectors",
    "parse_vector_type",
    "quantise_and_restore",
]

VectorType = Literal["float32", "int8"]
StoreVectors = bool | VectorType  # as given to `create`: True is float32

# int8: a float32 scale, then a byte a component, sign and magnitude, zeros up to a multiple of four. A magnitude is at
# most 126, because the released pipelines refuse four bytes that would be NaN or infinite as a float32.
INT8_LEVELS = 126
_SCALE_BYTES = 4


def parse_vector_type(store_vectors: object) -> VectorType | None:
    """What `store_vectors` asks for, or what ``_meta.vectors`` says; None for no vectors.

    Raises:
        InvalidInput: neither a boolean nor the name of a type.
    """
    if store_vectors is None or store_vectors is False:
        return None
    if store_vectors is True or store_vectors == "float32":
        return "float32"
    if store_vectors == "int8":
        return "int8"
    raise InvalidInput(f"store_vectors is {store_vectors!r}; expected True, False, 'float32' or 'int8'")


def count_vector_bytes(vector_type: VectorType, dimensions: int) -> int:
    """The length of what `encode_vectors` encodes: 4·D bytes, or about D + 4."""
    return 4 * dimensions if vector_type == "float32" else _SCALE_BYTES + dimensions + -dimensions % 4


def encode_vectors(features: NDArray[np.float32], vector_type: VectorType = "float32") -> list[str]:
    """Base64 of each row, L2-normalised: what the field ``vector`` holds.

    int8 keeps each component to within 1/252 of the largest. The scale is such that the stored vector has norm 1, so
    no cosine is above 1.

    Args:
        features: float32 (N, D), finite, no row all zero.
        vector_type: the type to store.
    """
    if vector_type == "float32":
        return [encode_vector(row) for row in normalise_rows(features)]
    rows, dimensions = features.shape
    levels, scales = _quantise(features)
    stored = np.zeros((rows, count_vector_bytes(vector_type, dimensions)), dtype=np.uint8)
    stored[:, :_SCALE_BYTES] = scales.astype("<f4")[:, np.newaxis].view(np.uint8)
    stored[:, _SCALE_BYTES : _SCALE_BYTES + dimensions] = np.abs(levels) | ((levels < 0) << 7)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in stored]


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Base64 of little-endian float32, as given."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


def decode_vector(
    text: str, vector_type: VectorType = "float32", *, dimensions: int | None = None
) -> NDArray[np.float32]:
    """What a stored vector stands for: float32 (D,). Engines leave the padding out where they return doc values.

    Args:
        text: base64.
        vector_type: the type it is stored in.
        dimensions: D, which int8 needs.

    Raises:
        ClusterError: the text is no vector; something else than deepterms wrote the document.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4))
        if vector_type == "float32":
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)
        scale = np.frombuffer(raw[:_SCALE_BYTES], dtype="<f4")[0]
    except (ValueError, IndexError) as error:  # binascii.Error is a ValueError
        raise ClusterError(f"a stored vector is not base64 of little-endian {vector_type}: {error}") from error
    numbers = np.frombuffer(raw[_SCALE_BYTES:], dtype=np.uint8)[:dimensions].astype(np.int16)
    return _dequantise(np.where(numbers < 128, numbers, 128 - numbers), scale)


def quantise_and_restore(features: NDArray[np.float32], vector_type: VectorType) -> NDArray[np.float32]:
    """What is left of rows (N, D) once they are stored: float32 (N, D), L2-normalised."""
    if vector_type == "float32":
        return normalise_rows(features)
    levels, scales = _quantise(features)
    return _dequantise(levels, scales[:, np.newaxis])


def _quantise(features: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Levels from −126 to 126 (N, D), and the scale (N,) that gives each row of them norm 1."""
    largest = np.abs(features).max(axis=1, keepdims=True).astype(np.float64)
    levels = np.rint(features / largest * INT8_LEVELS).astype(np.int16)
    norms = np.sqrt(np.einsum("nd,nd->n", levels, levels, dtype=np.float64))
    return levels, (1 / norms).astype(np.float32)


def _dequantise(levels: NDArray[np.int16], scale: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = levels.astype(np.float32) * scale
    return vector
