"""Ingest: documents to concurrent bulk requests, even if the index behind the name is replaced meanwhile."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK
from deepterms.cluster.bulk import (
    BulkLine,
    BulkResult,
)
from deepterms.cluster.patience import Patience
from deepterms.encoders.arrays import Features
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.index.checkpoint import Checkpoint, hash_piece
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.index.sending import build_report, find_stale, send
from deepterms.results import Failure, Revision, WriteReport
from deepterms.schema.aligned import Ids, MetadataRows, align_documents, read_id_pieces, select_ids
from deepterms.schema.documents import Batch, build_bulk_lines, check_documents
from deepterms.schema.index_spec import IndexState
from deepterms.storage.index_state import is_ancestor
from deepterms.telemetry import span
from deepterms.terms import TermFrequencies

__all__ = [
    "DEFAULT_THREADS",
    "DOCUMENTS_PER_BULK",
    "DocumentBatch",
    "add_batches",
    "delete",
    "describe_owner",
]

DEFAULT_THREADS = 2

DocumentBatch = tuple[Ids, Features | TermFrequencies, MetadataRows | None]

logger = logging.getLogger("deepterms")


def add_batches(
    handle: IndexHandle,
    batches: Iterable[DocumentBatch],
    *,
    threads: int = DEFAULT_THREADS,
    on_progress: Callable[[int], None] | None = None,
    revisions: Iterable[Revision | None] | None = None,
    checkpoint: str | Path | None = None,
) -> WriteReport:
    """Implement `SurrogateIndex.add_batches`; `revisions` require a single batch."""
    report = WriteReport(0)
    waiting: deque[tuple[str, set[str], Future[tuple[WriteReport, IndexState]]]] = deque()
    written: Counter[tuple[str, str]] = Counter()  # (concrete index, uuid) → documents acknowledged
    encoder = handle.state.spec.encoder  # that of terms which the caller has made
    first = confirm_state(handle)
    patience = Patience(handle.cluster.backpressure)
    with (
        span("deepterms.add", index=handle.name) as spanned,
        ThreadPoolExecutor(threads, thread_name_prefix="deepterms-bulk") as pool,
        nullcontext() if checkpoint is None else Checkpoint(checkpoint, owner=describe_owner(first)) as journal,
    ):

        def collect() -> WriteReport:
            piece, _, sent = waiting.popleft()
            finished, state = sent.result()
            for identity in state.uuids.items():
                written[identity] += finished.succeeded
            if journal is not None and not finished.failed:
                journal.record(piece, documents=finished.succeeded)
            if on_progress is not None:
                on_progress(finished.succeeded + len(finished.failed))
            return finished

        for batch, state in _split(handle, batches, revisions, encoder=encoder):
            if batch.failed:
                report += WriteReport(0, batch.failed)
            if not batch.ids:
                continue
            piece, done = ("", False) if journal is None else journal.enter(hash_piece(batch), batch.ids)
            if done:
                report += WriteReport(len(batch.ids), skipped=len(batch.ids))
                if on_progress is not None:
                    on_progress(len(batch.ids))
                continue
            lines = build_bulk_lines(batch, state.spec, fingerprint=state.fingerprint)
            ids = set(batch.ids)
            # A document under way, with all its retries, is never overtaken by a later one of the same id.
            while any(not ids.isdisjoint(sent) for _, sent, _ in waiting):
                report += collect()
            waiting.append((piece, ids, pool.submit(_index, handle, batch, state, lines, patience)))
            # To bound memory, encoding runs at most one piece per thread ahead of the requests.
            while len(waiting) > 2 * threads:
                report += collect()
        while waiting:
            report += collect()
        lost = _count_lost(handle, written)
        spanned.note(documents=report.succeeded - lost, failed=len(report.failed))
    return WriteReport(report.succeeded - lost, report.failed, report.skipped, lost) if lost else report


def delete(handle: IndexHandle, ids: Ids) -> WriteReport:
    """Implement `SurrogateIndex.delete`."""
    report = WriteReport(0)
    pieces = read_id_pieces(ids, DOCUMENTS_PER_BULK)
    state = confirm_state(handle)
    patience = Patience(handle.cluster.backpressure)
    for piece in pieces:
        chunk, failed = select_ids(piece)
        report += WriteReport(0, failed)
        if not chunk:
            continue
        lines: list[BulkLine] = [({"delete": {"_id": identifier}}, None) for identifier in chunk]
        result = send(handle, lines, state, patience=patience)
        if find_stale(result, state):
            # Either the name now points to exactly one other index, or reading its state raises.
            state = read_again(handle)
            result = send(handle, lines, state, patience=patience)
        report += build_report(result)
    return report


def describe_owner(state: IndexState) -> dict[str, Any]:
    """Identify the index that a checkpoint belongs to; an index deleted and created again has another uuid."""
    return {
        "index": state.name,
        "concrete": dict(sorted(state.uuids.items())),
        "encoder": state.spec.encoder.spec(),
        "vectors": state.spec.vector_type,
    }


def _split(
    handle: IndexHandle,
    batches: Iterable[DocumentBatch],
    revisions: Iterable[Revision | None] | None,
    *,
    encoder: Encoder,
) -> Iterator[tuple[Batch, IndexState]]:
    """Yield validated pieces of the batches, each with the state that it was validated for.

    Terms must be of `encoder`; an index that no longer has it rejects them.
    """
    for given in batches:
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise InvalidInput(
                f"a batch is (ids, features or terms, metadata or None); got {type(given).__name__}: pass a stream of "
                "batches"
            )
        documents = align_documents(*given, revisions)
        seen: set[str] = set()
        for start in range(0, len(documents.ids), DOCUMENTS_PER_BULK):
            state = handle.state
            piece = documents.select(slice(start, start + DOCUMENTS_PER_BULK))
            batch = check_documents(piece, encoder=state.spec.encoder, schema=state.spec.schema, seen=seen)
            kept, rejected = _drop_foreign(batch, state)
            if isinstance(documents.content, TermFrequencies) and state.spec.encoder.spec() != encoder.spec():
                kept, rejected = kept.select(()), (*rejected, *_reject_terms(kept, state))
            yield replace(kept, failed=batch.failed + rejected), state


def _index(
    handle: IndexHandle, batch: Batch, state: IndexState, lines: list[BulkLine], patience: Patience
) -> tuple[WriteReport, IndexState]:
    """Send a batch; if the name moved to another index, encode the affected documents again for that one.

    Returns:
        The report of the batch, and the state of the index that holds it.

    Raises:
        IndexNotFound: the index no longer exists.
        ClusterError: the name points to several indices, or to one that deepterms did not create.
    """
    report = WriteReport(0)
    for _ in range(MAX_REOPENINGS):
        result = send(handle, lines, state, patience=patience)
        stale = find_stale(result, state)
        now = read_again(handle) if stale else confirm_state(handle)
        if now.is_same_index(state):
            return report + build_report(result), state
        if now.descends_from(state):  # what the old index accepted, the migration has copied
            fine = tuple(answer for answer in result.answers if answer.id not in stale)
            report, batch = report + build_report(BulkResult(fine)), batch.select(stale)
        # Otherwise somebody deleted the index, with whatever it accepted of this batch.
        batch, rejected = _drop_foreign(batch, now)
        report += WriteReport(0, rejected)
        if not batch.ids:
            return report, now
        if isinstance(batch.content, TermFrequencies) and now.spec.encoder.spec() != state.spec.encoder.spec():
            return report + _withdraw(handle, batch, now, accepted=result), now
        state, lines = now, build_bulk_lines(batch, now.spec, fingerprint=now.fingerprint)
    why = f"{handle.name!r} was replaced {MAX_REOPENINGS} times while this document was being written; add it again"
    return report + WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids)), state


def _drop_foreign(batch: Batch, state: IndexState) -> tuple[Batch, tuple[Failure, ...]]:
    """Separate the documents whose revision was read from another index, where sequence numbers mean other writes."""
    revisions = batch.revisions or [None] * len(batch.ids)
    foreign = {
        identifier
        for identifier, revision in zip(batch.ids, revisions, strict=True)
        if revision is not None and revision.index and revision.index not in state.uuids.values()
    }
    if not foreign:
        return batch, ()
    why = "the index was replaced since the document was read; read it again and retry"
    rejected = tuple(Failure(identifier, why) for identifier in batch.ids if identifier in foreign)
    return batch.select(set(batch.ids) - foreign), rejected


def _withdraw(handle: IndexHandle, batch: Batch, state: IndexState, *, accepted: BulkResult) -> WriteReport:
    """Delete documents given as terms of an encoder that the index no longer has, where it has accepted them."""
    taken = {answer.id for answer in accepted.answers if not answer.reason and answer.index in state.uuids}
    if taken:
        send(handle, [({"delete": {"_id": identifier}}, None) for identifier in sorted(taken)], state)
    return WriteReport(0, tuple(_reject_terms(batch, state)))


def _reject_terms(batch: Batch, state: IndexState) -> Iterator[Failure]:
    why = (
        f"the index changed to {state.spec.encoder} meanwhile, whose queries cannot match terms of another encoder; "
        "encode the document again with index.encoder"
    )
    return (Failure(identifier, why) for identifier in batch.ids)


def _count_lost(handle: IndexHandle, written: Counter[tuple[str, str]]) -> int:
    """Count acknowledged documents that the name no longer leads to, because somebody deleted their index.

    A migration copies the documents of the old index, so it loses none.
    """
    now = confirm_state(handle)
    lost = sum(
        documents
        for (concrete, uuid), documents in written.items()
        if documents and not is_ancestor(handle.cluster, now, concrete, uuid)
    )
    if lost:
        logger.warning(
            "the index of %s was deleted or rolled back while documents were added; %d acknowledged documents are lost",
            handle.name,
            lost,
        )
    return lost
