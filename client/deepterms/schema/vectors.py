"""Stored vectors: converts descriptors to and from the bytes that an index stores for re-ranking, float32 or int8."""

from __future__ import annotations

import base64
from collections.abc import Sequence
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
    "quantise",
    "quantise_and_restore",
    "quantise_query",
    "round_query",
]

VectorType = Literal["float32", "int8"]
StoreVectors = bool | VectorType  # as passed to `create`: True means float32, or int8 if they are compared natively

# int8: a float32 scale, then one byte per component (sign and magnitude), zero-padded to a multiple of four. Magnitudes
# are at most 126, because the released pipelines reject four bytes that would be NaN or infinite as a float32.
INT8_LEVELS = 126
# A query is compared with int8 vectors in 12 bits per component. In 8 bits, it lost .001 to .002 of the ten nearest
# that int8 vectors find; from 10 bits on, none (benchmarks/sketches.py).
QUERY_LEVELS = 2_047
_SCALE_BYTES = 4


def parse_vector_type(store_vectors: object) -> VectorType | None:
    """Parse the argument `store_vectors`, or ``_meta.vectors``; None means that no vectors are stored.

    Raises:
        InvalidInput: it is neither a boolean nor the name of a type.
    """
    if store_vectors is None or store_vectors is False:
        return None
    if store_vectors is True or store_vectors == "float32":
        return "float32"
    if store_vectors == "int8":
        return "int8"
    raise InvalidInput(f"store_vectors is {store_vectors!r}; expected True, False, 'float32' or 'int8'")


def count_vector_bytes(vector_type: VectorType, dimensions: int) -> int:
    """Count the bytes of a stored vector: 4·D for float32, about D + 4 for int8."""
    return 4 * dimensions if vector_type == "float32" else _SCALE_BYTES + dimensions + -dimensions % 4


def encode_vectors(features: NDArray[np.float32], vector_type: VectorType = "float32") -> list[str]:
    """L2-normalise each row and encode it to base64, as stored in the field ``vector``.

    int8 keeps each component to within 1/252 of the largest. The scale gives the stored vector norm 1, so that no
    cosine exceeds 1.

    Args:
        features: float32 (N, D), finite, without all-zero rows.
        vector_type: the type to store.
    """
    if vector_type == "float32":
        return [encode_vector(row) for row in normalise_rows(features)]
    rows, dimensions = features.shape
    levels, scales = quantise(features)
    stored = np.zeros((rows, count_vector_bytes(vector_type, dimensions)), dtype=np.uint8)
    stored[:, :_SCALE_BYTES] = scales.astype("<f4")[:, np.newaxis].view(np.uint8)
    stored[:, _SCALE_BYTES : _SCALE_BYTES + dimensions] = np.abs(levels) | ((levels < 0) << 7)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in stored]


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Encode a vector (D,) to base64 of little-endian float32, without normalising it."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


def decode_vector(
    stored: str | Sequence[int], vector_type: VectorType = "float32", *, dimensions: int | None = None
) -> NDArray[np.float32]:
    """Decode a stored vector to float32 (D,).

    Args:
        stored: base64, with or without padding: engines omit it when they return doc values. Or the numbers of a native
            vector, of any scale.
        vector_type: the type in which it is stored.
        dimensions: D, required for int8.

    Raises:
        ClusterError: the text is not a vector, so the document was not written by deepterms.
    """
    if not isinstance(stored, str):
        levels = np.asarray(stored, dtype=np.int16)
        return _dequantise(levels, np.float32(1 / max(float(np.linalg.norm(levels)), 1.0)))
    try:
        raw = base64.b64decode(stored + "=" * (-len(stored) % 4))
        if vector_type == "float32":
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)
        scale = np.frombuffer(raw[:_SCALE_BYTES], dtype="<f4")[0]
    except (ValueError, IndexError) as error:  # binascii.Error is a ValueError
        raise ClusterError(f"a stored vector is not base64 of little-endian {vector_type}: {error}") from error
    numbers = np.frombuffer(raw[_SCALE_BYTES:], dtype=np.uint8)[:dimensions].astype(np.int16)
    return _dequantise(np.where(numbers < 128, numbers, 128 - numbers), scale)


def quantise_and_restore(features: NDArray[np.float32], vector_type: VectorType) -> NDArray[np.float32]:
    """Quantise rows (N, D) and restore them, as storing and reading them would: float32 (N, D), L2-normalised."""
    if vector_type == "float32":
        return normalise_rows(features)
    levels, scales = quantise(features)
    return _dequantise(levels, scales[:, np.newaxis])


def quantise_query(query: NDArray[np.float32]) -> tuple[NDArray[np.int16], float]:
    """Quantise a query to compare it with int8 vectors.

    Args:
        query: float32 (D,), not all zero.

    Returns:
        Levels from −2,047 to 2,047, int16 (D,), and the scale that gives them norm 1, so that no cosine exceeds 1.
    """
    wide = query.astype(np.float64)
    levels = np.rint(wide * (QUERY_LEVELS / np.abs(wide).max())).astype(np.int16)
    return levels, 1 / float(np.linalg.norm(levels.astype(np.float64)))


def round_query(query: NDArray[np.float32], compared_by: VectorType | Literal["native"]) -> NDArray[np.float32]:
    """Round a normalised query (D,) as the cluster does before it compares: float32 (D,). Only int8 scripts do."""
    if compared_by != "int8":
        return query
    levels, scale = quantise_query(query)
    rounded: NDArray[np.float32] = (levels * scale).astype(np.float32)
    return rounded


def quantise(features: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Quantise rows to levels from −126 to 126 (N, D), and the scales (N,) that give each row norm 1."""
    largest = np.abs(features).max(axis=1, keepdims=True).astype(np.float64)
    levels = np.rint(features / largest * INT8_LEVELS).astype(np.int16)
    norms = np.sqrt(np.einsum("nd,nd->n", levels, levels, dtype=np.float64))
    return levels, (1 / norms).astype(np.float32)


def _dequantise(levels: NDArray[np.int16], scale: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = levels.astype(np.float32) * scale
    return vector
