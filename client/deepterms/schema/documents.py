"""Documents: ids, features and metadata from outside, checked one by one, and rendered as lines of a bulk request."""

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
from deepterms.schema.vectors import encode_vectors
from deepterms.terms import TermFrequencies

__all__ = ["Batch", "build_bulk_lines", "build_condition", "check_batch", "select_usable_documents"]

MAX_ID_BYTES = 512  # of both engines


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
        content: float32 (N, D) as given, or the terms of documents that were given as terms.
        metadata: N mappings.
        failed: the others, with the reason.
        revisions: of the documents to replace; None, or None for one of them: whatever is there.
    """

    ids: list[str]
    content: NDArray[np.float32] | TermFrequencies
    metadata: list[dict[str, Any]]
    failed: tuple[Failure, ...]
    revisions: list[Revision | None] | None = None

    def select(self, ids: Collection[str]) -> Batch:
        """The documents of some ids only, without the failed ones."""
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
        """The documents' terms (N, V), made by the encoder unless they were given."""
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
    """Separate usable documents from the rest.

    Args:
        ids: N ids.
        content: features, float32 (N, D), or terms (N, V).
        metadata: N mappings of what JSON can hold, or None.
        encoder: of the index; gives D and V.
        seen: ids given before in the same call; those of this batch are put in.
        revisions: N revisions of the documents to replace, or None.

    Raises:
        InvalidInput: they do not belong together: other lengths, or another D.
        EncoderMismatch: terms of another V.
    """
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
    usable: NDArray[np.float32] | TermFrequencies
    if isinstance(content, TermFrequencies):
        what, usable, reasons = "terms", content, _unusable_terms(content, encoder)
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
    """Which documents have a usable id, given once, and metadata that JSON can hold.

    Args:
        ids: N ids.
        metadata: N mappings, or None.
        reasons: row → why a document is not usable for another reason.
        seen: as in `check_batch`.

    Returns:
        The rows of the usable ones, their metadata, and the others.
    """
    kept: list[int] = []
    seen = set() if seen is None else seen
    usable_metadata: list[dict[str, Any]] = []
    failed: list[Failure] = []
    for row, identifier in enumerate(ids):
        given = {} if metadata is None else metadata[row]
        why = reasons.get(row, "") if reasons else ""
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
    return kept, usable_metadata, tuple(failed)


def _unusable_terms(terms: TermFrequencies, encoder: Encoder) -> dict[int, str]:
    if terms.vocabulary_size != encoder.vocabulary_size:
        raise EncoderMismatch(
            f"the terms are over a vocabulary of {terms.vocabulary_size:,} codewords; {encoder} has "
            f"{encoder.vocabulary_size:,}. Make them with index.encoder, or with an equal one"
        )
    (empty,) = np.nonzero(np.diff(terms.matrix.indptr) == 0)
    return dict.fromkeys(empty.tolist(), "the document has no codeword")


def build_bulk_lines(batch: Batch, spec: IndexSpec, *, fingerprint: str | None = None) -> list[BulkLine]:
    """The (action, source) lines that index a batch; the action names the id, the source is JSON text.

    Args:
        batch: of documents that were checked for the encoder of `spec`.
        spec: of the index.
        fingerprint: of the index, if its pipeline checks that documents were encoded for it.
    """
    rendered, vectors = batch.terms(spec.encoder).to_json(), [""] * len(batch.ids)
    if spec.vector_type is not None and not isinstance(batch.content, TermFrequencies):
        vectors = [f',"vector":"{text}"' for text in encode_vectors(batch.content, spec.vector_type)]
    mark = "" if fingerprint is None else f',"{FINGERPRINT}":"{fingerprint}"'
    return [
        (
            {"index": {"_id": identifier, **build_condition(batch.revisions[row] if batch.revisions else None)}},
            f'{{"terms":{rendered[row]}{vectors[row]}{mark}{_metadata_member(batch.metadata[row])}}}',
        )
        for row, identifier in enumerate(batch.ids)
    ]


def build_condition(revision: Revision | None) -> dict[str, int]:
    """The part of an action that makes the engine refuse it if the document has another revision by now."""
    return {} if revision is None else {"if_seq_no": revision.seq_no, "if_primary_term": revision.primary_term}


def _metadata_member(metadata: dict[str, Any]) -> str:
    return f',"metadata":{json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))}' if metadata else ""


def _first_sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
    return f"metadata cannot be written as JSON: {error}"
