"""Stored documents: all that a search can bring back of them, and the lines of a bulk request that write it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.bulk import BulkLine
from deepterms.encoders.inputs import find_unusable_rows
from deepterms.results import Failure, Revision, StoredDocument
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.vectors import VectorType, count_vector_bytes, decode_vector

__all__ = ["STORED", "build_address", "build_rewrite_lines", "read_revision", "read_stored_document", "read_vector"]

# The parts of a search body that bring back all that is stored of a document: a vector is a doc value only.
STORED: Mapping[str, Any] = {"_source": True, "docvalue_fields": ["vector"], "seq_no_primary_term": True}


def build_rewrite_lines(
    hits: Sequence[Mapping[str, Any]],
    *,
    spec: IndexSpec,
    keep_terms: bool,
    action: Callable[[Mapping[str, Any]], dict[str, Any]],
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    fingerprint: str | None = None,
) -> tuple[list[BulkLine], tuple[Failure, ...]]:
    """The lines of a bulk request that write stored documents as a whole.

    Args:
        hits: of a search with `STORED`.
        spec: of the index to write; both indices store vectors in its type, and their bytes are written as they are.
        keep_terms: take stored terms as they are, since the encoder is the same; else encode the stored vectors.
        action: a hit's action line.
        metadata: id → what replaces the document's own.
        fingerprint: of the index to write, if its pipeline is to check it.

    Returns:
        The lines, and the documents that cannot be written.
    """
    texts = [_vector(hit) for hit in hits]
    stored, encoder = spec.vector_type or "float32", spec.encoder
    encoded = [row for row, hit in enumerate(hits) if not (keep_terms and "terms" in hit["_source"])]
    reasons = {row: "stores no vector, so its terms cannot be made anew" for row in encoded if texts[row] is None}
    features = {
        row: decode_vector(text, stored, dimensions=encoder.dimensions)
        for row in encoded
        if (text := texts[row]) is not None
    }
    for row, feature in features.items():
        if len(feature) != encoder.dimensions:
            reasons[row] = f"stores a vector of {len(feature)} dimensions; expected {encoder.dimensions}"
        elif why := find_unusable_rows(feature[np.newaxis]).get(0):
            reasons[row] = why
    usable = [row for row in encoded if row not in reasons]
    terms: dict[int, str] = {}
    if usable:
        batch = np.stack([features[row] for row in usable])  # (n, D)
        terms = dict(zip(usable, encoder.encode(batch).to_json(), strict=True))
    lines: list[BulkLine] = []
    for row, hit in enumerate(hits):
        if row not in reasons:
            vector = texts[row]
            members = {key: value for key, value in hit["_source"].items() if row not in terms or key != "terms"}
            if metadata is not None:
                members["metadata"] = metadata[hit["_id"]]
            if fingerprint is not None:
                members[FINGERPRINT] = fingerprint
            if vector is not None:
                members["vector"] = vector + "=" * (-len(vector) % 4)  # engines leave the padding out
            source = json.dumps(members, separators=(",", ":"))
            if row in terms:
                source = f'{{"terms":{terms[row]}{"," if members else ""}{source[1:]}'
            lines.append((action(hit), source))
    return lines, tuple(Failure(str(hits[row]["_id"]), reasons[row]) for row in sorted(reasons))


def read_stored_document(hit: Mapping[str, Any], vector_type: VectorType | None, *, dimensions: int) -> StoredDocument:
    """What a hit says of its document.

    Args:
        hit: of a search that brings back terms, metadata, the vector and the revision.
        vector_type: the type that the index stores; None if it stores none.
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
    """The vector (D,) that a hit brings back; None if there is none, or none to re-rank by.

    An index that was written to around its pipeline may hold one of another length, or one that is not finite.
    """
    text = _vector(hit)
    if (
        text is None
        or vector_type is None
        or len(text.rstrip("=")) * 3 // 4 != count_vector_bytes(vector_type, dimensions)
    ):
        return None
    vector = decode_vector(text, vector_type, dimensions=dimensions)
    return vector if np.isfinite(vector).all() else None


def read_revision(hit: Mapping[str, Any]) -> Revision | None:
    """Which writing of its document a hit is; None if the search did not ask."""
    return Revision(hit["_seq_no"], hit["_primary_term"]) if "_seq_no" in hit else None


def build_address(hit: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an action that says which document is meant."""
    routing = {"routing": hit["_routing"]} if "_routing" in hit else {}
    return {"_id": hit["_id"], **routing}


def _vector(hit: Mapping[str, Any]) -> str | None:
    values = hit.get("fields", {}).get("vector")
    return str(values[0]) if values else None
