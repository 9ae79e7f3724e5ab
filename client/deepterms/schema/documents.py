"""Documents: checks ids, features and metadata from callers, and renders them as lines of a bulk request."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.bulk import BulkLine
from deepterms.encoders.arrays import Features
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, find_unusable_rows
from deepterms.errors import EncoderMismatch
from deepterms.results import Failure, Revision
from deepterms.schema.aligned import AlignedDocuments, Ids, MetadataRows, align_documents, find_id_fault
from deepterms.schema.index_spec import FINGERPRINT, IndexSpec
from deepterms.schema.json_values import is_missing, to_json_object
from deepterms.schema.metadata_values import find_misfit
from deepterms.schema.native_vectors import encode_native_vectors
from deepterms.schema.vectors import encode_vectors
from deepterms.terms import TermFrequencies

__all__ = ["Batch", "build_bulk_lines", "build_condition", "check_batch", "check_documents", "select_usable_documents"]


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
    ids: Ids,
    content: Features | TermFrequencies,
    metadata: MetadataRows | None,
    *,
    encoder: Encoder,
    seen: set[str] | None = None,
    revisions: Iterable[Revision | None] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Batch:
    """Separate usable documents from the others; the arguments may be in any container.

    Args:
        ids: N ids.
        content: features, numbers (N, D), or terms (N, V).
        metadata: N mappings of values that `deepterms.schema.json_values` can convert, or None.
        encoder: the encoder of the index; determines D and V.
        seen: ids that occurred earlier in the same call; the usable ids of this batch are added.
        revisions: N expected revisions of the documents to replace, or None.
        schema: the declared metadata fields of the index.

    Raises:
        InvalidInput: as for `align_documents`, or the features have another D.
        EncoderMismatch: the terms have another V.
    """
    return check_documents(
        align_documents(ids, content, metadata, revisions), encoder=encoder, seen=seen, schema=schema
    )


def check_documents(
    given: AlignedDocuments,
    *,
    encoder: Encoder,
    seen: set[str] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Batch:
    """Separate usable documents from the others; see `check_batch`."""
    usable: NDArray[np.float32] | TermFrequencies
    if isinstance(given.content, TermFrequencies):
        usable, reasons = given.content, _find_unusable_terms(given.content, encoder)
    else:
        usable = (
            as_features(given.content, dimensions=encoder.dimensions)
            if given.ids
            else np.empty((0, encoder.dimensions), np.float32)
        )
        reasons = find_unusable_rows(usable)
    kept, usable_metadata, failed = select_usable_documents(
        given.ids, given.metadata, reasons=reasons, seen=seen, schema=schema
    )
    if len(kept) < len(given.ids):
        usable = TermFrequencies(usable.matrix[kept]) if isinstance(usable, TermFrequencies) else usable[kept]
    expected = None if given.revisions is None else [given.revisions[row] for row in kept]
    return Batch([given.ids[row] for row in kept], usable, usable_metadata, failed, expected)


def select_usable_documents(
    ids: Sequence[Any],
    metadata: Sequence[Any] | None,
    *,
    reasons: Mapping[int, str] | None = None,
    seen: set[str] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> tuple[list[int], list[dict[str, Any]], tuple[Failure, ...]]:
    """Select documents with a valid id, used only once, and metadata that can be represented as JSON.

    Args:
        ids: N ids, as `deepterms.schema.aligned` lists them.
        metadata: N mappings, None for no metadata; or None for all.
        reasons: row → reason, for documents that are unusable otherwise.
        seen: as in `check_batch`.
        schema: as in `check_batch`.

    Returns:
        The rows of the usable documents, their metadata, and the unusable documents.
    """
    kept: list[int] = []
    seen = set() if seen is None else seen
    usable_metadata: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for row, identifier in enumerate(ids):
        reason = (reasons.get(row, "") if reasons else "") or find_id_fault(identifier)
        about: dict[str, Any] = {}
        if not reason and metadata is not None:
            about, reason = _read_metadata(metadata[row])
            reason = reason or find_misfit(about, schema or {})
        if not reason and identifier in seen:
            # Two threads send concurrently, so the order of writes is undefined; only the first document is sent.
            reason = "the id occurred earlier in this call; the first document with that id was kept"
        if reason:
            failed.append(Failure(str(identifier), reason))
            continue
        seen.add(identifier)
        kept.append(row)
        usable_metadata.append(about)
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


def _read_metadata(given: Any) -> tuple[dict[str, Any], str]:
    """Return the metadata of one document as JSON, or the reason why there is none."""
    if isinstance(given, Mapping):
        try:
            return to_json_object(given), ""
        except (ValueError, RecursionError) as error:  # an InvalidInput is a ValueError
            return {}, str(error)
    return {}, "" if is_missing(given) else f"metadata is a {type(given).__name__}; expected a mapping"
