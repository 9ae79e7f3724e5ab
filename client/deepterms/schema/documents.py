"""Documents: checks ids, features and metadata from callers, and renders them as lines of a bulk request."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationError

from deepterms.cluster.bulk import BulkLine
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, find_unusable_rows
from deepterms.errors import EncoderMismatch, InvalidInput
from deepterms.results import Failure, Revision
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.native_vectors import encode_native_vectors
from deepterms.schema.vectors import encode_vectors
from deepterms.terms import TermFrequencies

__all__ = ["Batch", "build_bulk_lines", "build_condition", "check_batch", "select_usable_documents"]

MAX_ID_BYTES = 512  # the limit of both engines


def _check_id(identifier: str) -> str:
    size = len(identifier.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_ID_BYTES:
        raise ValueError(f"an id has 1 to {MAX_ID_BYTES} bytes; got {size}")
    identifier.encode()  # raises for a lone surrogate, which cannot be sent
    return identifier


class Document(BaseModel):
    """ID and metadata of a document, as the caller passed them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, AfterValidator(_check_id)]
    metadata: dict[str, JsonValue]


@dataclass(frozen=True)
class Batch:
    """Documents that can be indexed, and those that cannot.

    Attributes:
        ids: N distinct ids of the usable documents.
        content: float32 (N, D) as passed, or terms (N, V) if the caller passed terms.
        metadata: N mappings.
        failed: the unusable documents, with the reasons.
        revisions: the expected revision of each document to replace; None (for all or one) replaces any revision.
    """

    ids: list[str]
    content: NDArray[np.float32] | TermFrequencies
    metadata: list[dict[str, Any]]
    failed: tuple[Failure, ...]
    revisions: list[Revision | None] | None = None

    def select(self, ids: Collection[str]) -> Batch:
        """Return a batch of the usable documents that have one of these ids."""
        rows = [row for row, identifier in enumerate(self.ids) if identifier in ids]
        content = self.content
        return Batch(
            [self.ids[row] for row in rows],
            TermFrequencies(content.matrix[rows]) if isinstance(content, TermFrequencies) else content[rows],
            [self.metadata[row] for row in rows],
            (),
            None if self.revisions is None else [self.revisions[row] for row in rows],
        )

    def terms(self, encoder: Encoder) -> TermFrequencies:
        """Return the documents' terms (N, V), encoded unless the caller passed terms."""
        return self.content if isinstance(self.content, TermFrequencies) else encoder.encode(self.content)


def check_batch(
    ids: Sequence[str],
    content: ArrayLike | TermFrequencies,
    metadata: Sequence[Mapping[str, Any]] | None,
    *,
    encoder: Encoder,
    seen: set[str] | None = None,
    revisions: Sequence[Revision | None] | None = None,
) -> Batch:
    """Separate usable documents from the others.

    Args:
        ids: N ids.
        content: features, float32 (N, D), or terms (N, V).
        metadata: N mappings that can be represented as JSON, or None.
        encoder: the encoder of the index; determines D and V.
        seen: ids that occurred earlier in the same call; the usable ids of this batch are added.
        revisions: N expected revisions of the documents to replace, or None.

    Raises:
        InvalidInput: the lengths differ, or the features have another D.
        EncoderMismatch: the terms have another V.
    """
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
    usable: NDArray[np.float32] | TermFrequencies
    if isinstance(content, TermFrequencies):
        what, usable, reasons = "terms", content, _find_unusable_terms(content, encoder)
    else:
        what = "features"
        usable = (
            as_features(content, dimensions=encoder.dimensions)
            if len(ids)
            else np.empty((0, encoder.dimensions), np.float32)
        )
        reasons = find_unusable_rows(usable)
    given = {what: usable, "metadata": metadata, "revisions": revisions}
    lengths = {name: len(values) for name, values in given.items() if values is not None}
    if set(lengths.values()) != {len(ids)}:
        got = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise InvalidInput(f"ids, {what} and metadata are aligned by position; got {len(ids)} ids, {got}")
    kept, usable_metadata, failed = select_usable_documents(ids, metadata, reasons=reasons, seen=seen)
    if len(kept) < len(ids):
        usable = TermFrequencies(usable.matrix[kept]) if isinstance(usable, TermFrequencies) else usable[kept]
    expected = None if revisions is None else [revisions[row] for row in kept]
    return Batch([ids[row] for row in kept], usable, usable_metadata, failed, expected)


def select_usable_documents(
    ids: Sequence[str],
    metadata: Sequence[Mapping[str, Any]] | None,
    *,
    reasons: Mapping[int, str] | None = None,
    seen: set[str] | None = None,
) -> tuple[list[int], list[dict[str, Any]], tuple[Failure, ...]]:
    """Select documents with a valid id, used only once, and metadata that can be represented as JSON.

    Args:
        ids: N ids.
        metadata: N mappings, or None.
        reasons: row → reason, for documents that are unusable otherwise.
        seen: as in `check_batch`.

    Returns:
        The rows of the usable documents, their metadata, and the unusable documents.
    """
    kept: list[int] = []
    seen = set() if seen is None else seen
    usable_metadata: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for row, identifier in enumerate(ids):
        given = {} if metadata is None else metadata[row]
        reason = reasons.get(row, "") if reasons else ""
        if not reason:
            try:
                document = Document(id=identifier, metadata=dict(given))
                json.dumps(document.metadata, allow_nan=False)
            except (ValidationError, ValueError, TypeError, RecursionError) as error:
                reason = _extract_message(error)
        if not reason and identifier in seen:
            # Two threads send concurrently, so the order of writes is undefined; only the first document is sent.
            reason = "the id occurred earlier in this call; the first document with that id was kept"
        if reason:
            failed.append(Failure(str(identifier), reason))
            continue
        seen.add(identifier)
        kept.append(row)
        usable_metadata.append(document.metadata)
    return kept, usable_metadata, tuple(failed)


def _find_unusable_terms(terms: TermFrequencies, encoder: Encoder) -> dict[int, str]:
    if terms.vocabulary_size != encoder.vocabulary_size:
        raise EncoderMismatch(
            f"the terms have a vocabulary of {terms.vocabulary_size:,} codewords; {encoder} has "
            f"{encoder.vocabulary_size:,}. Encode them with index.encoder, or with an equal encoder"
        )
    (empty,) = np.nonzero(np.diff(terms.matrix.indptr) == 0)
    return dict.fromkeys(empty.tolist(), "the document has no codeword")


def build_bulk_lines(batch: Batch, spec: IndexSpec, *, fingerprint: str | None = None) -> list[BulkLine]:
    """Build the (action, source) lines that index a batch; the action contains the id, the source is JSON text.

    Args:
        batch: documents that were checked for the encoder of `spec`.
        spec: the spec of the index.
        fingerprint: the fingerprint of the index, if its pipeline checks that documents were encoded for it.
    """
    rendered, vectors = batch.terms(spec.encoder).to_json(), [""] * len(batch.ids)
    if spec.vector_type is not None and not isinstance(batch.content, TermFrequencies):
        encoded = encode_native_vectors(batch.content) if spec.is_native else None
        vectors = [f',"vector":"{text}"' for text in encoded or encode_vectors(batch.content, spec.vector_type)]
    mark = "" if fingerprint is None else f',"{FINGERPRINT}":"{fingerprint}"'
    return [
        (
            {"index": {"_id": identifier, **build_condition(batch.revisions[row] if batch.revisions else None)}},
            f'{{"terms":{rendered[row]}{vectors[row]}{mark}{_metadata_member(batch.metadata[row])}}}',
        )
        for row, identifier in enumerate(batch.ids)
    ]


def build_condition(revision: Revision | None) -> dict[str, int]:
    """Build the part of an action that makes the engine reject it if the document has another revision."""
    return {} if revision is None else {"if_seq_no": revision.seq_no, "if_primary_term": revision.primary_term}


def _metadata_member(metadata: dict[str, Any]) -> str:
    return f',"metadata":{json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))}' if metadata else ""


def _extract_message(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return f"metadata cannot be written as JSON: {error}"
