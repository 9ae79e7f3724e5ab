"""Stored documents: converts search hits to documents, or to the lines of a bulk request that rewrites them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.bulk import BulkLine
from deepterms.encoders.inputs import find_unusable_rows
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Failure, Revision, StoredDocument
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.metadata_values import find_misfit
from deepterms.schema.native_vectors import encode_levels, encode_native_vectors
from deepterms.schema.vectors import VectorType, count_vector_bytes, decode_vector, encode_vectors

__all__ = [
    "STORED",
    "build_address",
    "build_rewrite_lines",
    "get_stored_vector",
    "read_revision",
    "read_stored_document",
    "read_vector",
    "restate_vector",
]

# The parts of a search body that return everything stored of a document; a vector is only a doc value.
STORED: Mapping[str, Any] = {"_source": True, "docvalue_fields": ["vector"], "seq_no_primary_term": True}


def build_rewrite_lines(
    hits: Sequence[Mapping[str, Any]],
    *,
    spec: IndexSpec,
    keep_terms: bool,
    action: Callable[[Mapping[str, Any]], dict[str, Any]],
    stored_type: VectorType | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    fingerprint: str | None = None,
) -> tuple[list[BulkLine], tuple[Failure, ...]]:
    """Build the lines of a bulk request that rewrite stored documents completely.

    Args:
        hits: hits of a search with `STORED`.
        spec: the spec of the index to write.
        keep_terms: keep stored terms, since the encoder is the same; otherwise, encode the stored vectors.
        action: builds the action line of a hit.
        stored_type: the type in which the index of the hits stores vectors. Default: that of `spec`.
        metadata: id → new metadata; None keeps the stored metadata.
        fingerprint: the fingerprint of the index to write, if its pipeline checks it.

    Returns:
        The lines, and the documents that cannot be written.
    """
    texts = [get_stored_vector(hit) for hit in hits]
    stored, encoder = stored_type or spec.vector_type or "float32", spec.encoder
    encoded = [row for row, hit in enumerate(hits) if not (keep_terms and "terms" in hit["_source"])]
    reasons = {row: "stores no vector to encode again" for row in encoded if texts[row] is None}
    features = {
        row: decode_vector(text, stored, dimensions=encoder.dimensions)
        for row in encoded
        if (text := texts[row]) is not None
    }
    for row, feature in features.items():
        if len(feature) != encoder.dimensions:
            reasons[row] = f"stores a vector of {len(feature)} dimensions; expected {encoder.dimensions}"
        elif reason := find_unusable_rows(feature[np.newaxis]).get(0):
            reasons[row] = reason
    for row, hit in enumerate(hits):
        written = hit["_source"].get("metadata", {}) if metadata is None else metadata[hit["_id"]]
        if row not in reasons and (reason := find_misfit(written, spec.schema)):
            reasons[row] = reason
    restated: dict[int, str] = {}
    for row, text in enumerate(texts):
        if text is not None and row not in reasons:
            try:
                restated[row] = restate_vector(text, stored, spec=spec)
            except (ClusterError, InvalidInput) as error:
                reasons[row] = str(error)
    usable = [row for row in encoded if row not in reasons]
    terms: dict[int, str] = {}
    if usable:
        batch = np.stack([features[row] for row in usable])  # (n, D)
        terms = dict(zip(usable, encoder.encode(batch).to_json(), strict=True))
    lines: list[BulkLine] = []
    for row, hit in enumerate(hits):
        if row not in reasons:
            members = {key: value for key, value in hit["_source"].items() if row not in terms or key != "terms"}
            if metadata is not None:
                members["metadata"] = metadata[hit["_id"]]
            if fingerprint is not None:
                members[FINGERPRINT] = fingerprint
            if row in restated:
                members["vector"] = restated[row]
            source = json.dumps(members, separators=(",", ":"))
            if row in terms:
                source = f'{{"terms":{terms[row]}{"," if members else ""}{source[1:]}'
            lines.append((action(hit), source))
    return lines, tuple(Failure(str(hits[row]["_id"]), reasons[row]) for row in sorted(reasons))


def read_stored_document(hit: Mapping[str, Any], vector_type: VectorType | None, *, dimensions: int) -> StoredDocument:
    """Convert a search hit to a document.

    Args:
        hit: a hit with terms, metadata, the vector and the revision.
        vector_type: the type in which the index stores vectors; None if it stores none.
        dimensions: D.
    """
    source = hit["_source"]
    return StoredDocument(
        id=str(hit["_id"]),
        terms=source.get("terms", {}),
        vector=read_vector(hit, vector_type, dimensions=dimensions),
        metadata=source.get("metadata", {}),
        revision=read_revision(hit),
    )


def read_vector(
    hit: Mapping[str, Any], vector_type: VectorType | None, *, dimensions: int
) -> NDArray[np.float32] | None:
    """Read the vector (D,) of a hit; None if it is missing, or unusable for re-ranking.

    An index that was written to without its pipeline may contain vectors of another length, or with NaN or infinity.
    """
    stored = get_stored_vector(hit)
    if stored is None or vector_type is None:
        return None
    if isinstance(stored, str) and len(stored.rstrip("=")) * 3 // 4 != count_vector_bytes(vector_type, dimensions):
        return None
    vector = decode_vector(stored, vector_type, dimensions=dimensions)
    return vector if np.isfinite(vector).all() else None


def get_stored_vector(hit: Mapping[str, Any]) -> str | list[int] | None:
    """Return the vector of a hit as the engine returns it: base64, or the numbers of a native vector; None if missing.

    Args:
        hit: a hit of a search with ``"docvalue_fields": ["vector"]``.
    """
    values = hit.get("fields", {}).get("vector")
    return values[0] if values else None


def restate_vector(stored: str | list[int], stored_type: VectorType, *, spec: IndexSpec) -> str:
    """Restate a stored vector as an index with another spec stores it. Bytes are kept wherever both store the same.

    Args:
        stored: base64, with or without padding, or the numbers of a native vector.
        stored_type: the type in which the index stores vectors that it was read from.
        spec: the spec of the index to write.

    Raises:
        ClusterError: it is not a vector.
        InvalidInput: it has another number of dimensions, or no direction.
    """
    if spec.is_native and not isinstance(stored, str):
        return encode_levels(stored)
    if isinstance(stored, str) and not spec.is_native and stored_type == (spec.vector_type or stored_type):
        return stored + "=" * (-len(stored) % 4)  # engines omit the padding
    vector = decode_vector(stored, stored_type, dimensions=spec.encoder.dimensions)[np.newaxis]
    if vector.shape[1] != spec.encoder.dimensions:
        raise InvalidInput(f"stores a vector of {vector.shape[1]} dimensions; expected {spec.encoder.dimensions}")
    if reason := find_unusable_rows(vector).get(0):
        raise InvalidInput(reason)
    return (encode_native_vectors(vector) if spec.is_native else encode_vectors(vector, spec.vector_type or "float32"))[
        0
    ]


def read_revision(hit: Mapping[str, Any]) -> Revision | None:
    """Read the revision of a hit; None if the search did not request it."""
    return Revision(hit["_seq_no"], hit["_primary_term"]) if "_seq_no" in hit else None


def build_address(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Build the part of an action that identifies the document: id and routing."""
    routing = {"routing": hit["_routing"]} if "_routing" in hit else {}
    return {"_id": hit["_id"], **routing}
