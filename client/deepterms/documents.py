"""Documents: ids, features and metadata from outside, checked one by one, and rendered as lines of a bulk request."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationError

from deepterms.encoders.encoder import as_features, unusable_rows
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Failure
from deepterms.terms import TermFrequencies

__all__ = ["Batch", "BulkLine", "bulk_lines", "check_batch", "decode_vector", "encode_vector", "normalise_rows"]

MAX_ID_BYTES = 512  # of both engines

# The action of a bulk request and its source as JSON text (None for an action without one).
BulkLine = tuple[dict[str, Any], str | None]


def _usable_id(identifier: str) -> str:
    size = len(identifier.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_ID_BYTES:
        raise ValueError(f"an id has 1 to {MAX_ID_BYTES} bytes; got {size}")
    identifier.encode()  # a lone surrogate cannot be sent
    return identifier


class Document(BaseModel):
    """What a caller says of one document beside its feature."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, AfterValidator(_usable_id)]
    metadata: dict[str, JsonValue]


@dataclass(frozen=True)
class Batch:
    """Documents that can be indexed, and those that cannot.

    Attributes:
        ids: of the usable documents, N, all different.
        features: float32 (N, D), as given.
        metadata: N mappings.
        failed: the others, with the reason.
    """

    ids: list[str]
    features: NDArray[np.float32]
    metadata: list[dict[str, Any]]
    failed: tuple[Failure, ...]


def check_batch(
    ids: Sequence[str],
    features: ArrayLike,
    metadata: Sequence[Mapping[str, Any]] | None,
    *,
    dimensions: int,
    seen: set[str] | None = None,
) -> Batch:
    """Separate usable documents from the rest.

    Args:
        ids: N ids.
        features: float32 (N, D).
        metadata: N mappings of what JSON can hold, or None.
        dimensions: D.
        seen: ids given before in the same call; those of this batch are put in.

    Raises:
        InvalidInput: the three do not belong together: other lengths, or another D.
    """
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
    array = as_features(features, dimensions=dimensions) if len(ids) else np.empty((0, dimensions), dtype=np.float32)
    if len(array) != len(ids) or (metadata is not None and len(metadata) != len(ids)):
        got = f"{len(ids)} ids, {len(array)} features" + ("" if metadata is None else f", {len(metadata)} metadata")
        raise InvalidInput(f"ids, features and metadata are aligned by position; got {got}")
    reasons = unusable_rows(array)
    kept: list[int] = []
    seen = set() if seen is None else seen
    usable_metadata: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for row, identifier in enumerate(ids):
        given = {} if metadata is None else metadata[row]
        why = reasons.get(row, "")
        if not why:
            try:
                document = Document(id=identifier, metadata=dict(given))
                json.dumps(document.metadata, allow_nan=False)
            except (ValidationError, ValueError, TypeError, RecursionError) as error:
                why = _first_sentence(error)
        if not why and identifier in seen:
            # Two threads send at once, so which of two would win is open: the first is taken, the others reported.
            why = "the id was given before in this call; the first document of that id was kept"
        if why:
            failed.append(Failure(str(identifier), why))
            continue
        seen.add(identifier)
        kept.append(row)
        usable_metadata.append(document.metadata)
    if len(kept) == len(ids):
        return Batch(list(ids), array, usable_metadata, ())
    return Batch([ids[row] for row in kept], array[kept], usable_metadata, tuple(failed))


def bulk_lines(batch: Batch, terms: TermFrequencies, *, store_vectors: bool) -> list[BulkLine]:
    """The (action, source) lines that index a batch; the action names the id, the source is JSON text."""
    rendered = terms.to_json()
    vectors = [f',"vector":"{encode_vector(row)}"' for row in normalise_rows(batch.features)] if store_vectors else None
    return [
        (
            {"index": {"_id": identifier}},
            f'{{"terms":{rendered[row]}{vectors[row] if vectors else ""}{_metadata_member(batch.metadata[row])}}}',
        )
        for row, identifier in enumerate(batch.ids)
    ]


def _metadata_member(metadata: dict[str, Any]) -> str:
    return f',"metadata":{json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))}' if metadata else ""


def normalise_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of float32 (N, D) scaled to L2 norm 1; the norm is taken in float64, so that huge rows do not overflow."""
    norms: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    scaled: NDArray[np.float32] = (features / norms[:, np.newaxis]).astype(np.float32)
    return scaled


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Base64 of little-endian float32: what the field ``vector`` holds."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


def decode_vector(text: str) -> NDArray[np.float32]:
    """The inverse of `encode_vector`: float32 (D,). Engines leave the padding out where they return doc values.

    Raises:
        ClusterError: the text is no vector; something else than deepterms wrote the document.
    """
    try:
        return np.frombuffer(base64.b64decode(text + "=" * (-len(text) % 4)), dtype="<f4").astype(np.float32)
    except ValueError as error:  # binascii.Error is one
        raise ClusterError(f"a stored vector is not base64 of little-endian float32: {error}") from error


def _first_sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return f"metadata cannot be written as JSON: {error}"
