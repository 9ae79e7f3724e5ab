"""Ingest: documents to concurrent bulk requests, even if the index behind the name is replaced meanwhile."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK
from deepterms.cluster.bulk import BulkAnswer, BulkLine, BulkResult
from deepterms.errors import ClusterError, IndexNotFound, InvalidInput
from deepterms.index.checkpoint import Checkpoint, hash_piece
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.results import Failure, Revision, WriteReport
from deepterms.schema.documents import Batch, bulk_lines, check_batch
from deepterms.schema.index_pipeline import STALE_DOCUMENT
from deepterms.schema.index_spec import FINGERPRINT, IndexState
from deepterms.storage.index_state import read_uuids
from deepterms.telemetry import span
from deepterms.terms import TermFrequencies

__all__ = [
    "DEFAULT_THREADS",
    "DOCUMENTS_PER_BULK",
    "DocumentBatch",
    "add_batches",
    "build_report",
    "delete",
    "describe_owner",
    "find_stale",
    "send",
]

DEFAULT_THREADS = 2

DocumentBatch = tuple[Sequence[str], ArrayLike | TermFrequencies, Sequence[Mapping[str, Any]] | None]

logger = logging.getLogger("deepterms")


def add_batches(
    handle: IndexHandle,
    batches: Iterable[DocumentBatch],
    *,
    threads: int = DEFAULT_THREADS,
    on_progress: Callable[[int], None] | None = None,
    revisions: Sequence[Revision | None] | None = None,
    checkpoint: str | Path | None = None,
) -> WriteReport:
    """Implement `SurrogateIndex.add_batches`; `revisions` require a single batch."""
    report = WriteReport(0)
    waiting: deque[tuple[str, Future[tuple[WriteReport, IndexState]]]] = deque()
    written: Counter[tuple[str, str]] = Counter()  # (concrete index, uuid) → documents acknowledged
    first = confirm_state(handle)
    with (
        span("deepterms.add", index=handle.name) as spanned,
        ThreadPoolExecutor(threads, thread_name_prefix="deepterms-bulk") as pool,
        nullcontext() if checkpoint is None else Checkpoint(checkpoint, owner=describe_owner(first)) as journal,
    ):

        def collect() -> WriteReport:
            piece, sent = waiting.popleft()
            finished, state = sent.result()
            for identity in state.uuids.items():
                written[identity] += finished.succeeded
            if journal is not None and not finished.failed:
                journal.record(piece, documents=finished.succeeded)
            if on_progress is not None:
                on_progress(finished.succeeded + len(finished.failed))
            return finished

        for batch, state in _split(handle, batches, revisions):
            if batch.failed:
                report += WriteReport(0, batch.failed)
            if not batch.ids:
                continue
            piece = "" if journal is None else hash_piece(batch)
            if journal is not None and journal.holds(piece):
                report += WriteReport(len(batch.ids), skipped=len(batch.ids))
                if on_progress is not None:
                    on_progress(len(batch.ids))
                continue
            lines = bulk_lines(batch, state.spec, fingerprint=state.fingerprint)
            waiting.append((piece, pool.submit(_index, handle, batch, state, lines)))
            # To bound memory, encoding runs at most one piece per thread ahead of the requests.
            while len(waiting) > 2 * threads:
                report += collect()
        while waiting:
            report += collect()
        lost = _count_lost(handle, written)
        spanned.note(documents=report.succeeded - lost, failed=len(report.failed))
    return WriteReport(report.succeeded - lost, report.failed, report.skipped, lost) if lost else report


def delete(handle: IndexHandle, ids: Sequence[str]) -> WriteReport:
    """Implement `SurrogateIndex.delete`."""
    if isinstance(ids, str):
        raise InvalidInput(f"ids is a single string, {ids!r}; expected a sequence of ids")
    report = WriteReport(0)
    remaining = iter(ids)
    state = confirm_state(handle)
    while chunk := list(islice(remaining, DOCUMENTS_PER_BULK)):
        result = send(handle, [({"delete": {"_id": identifier}}, None) for identifier in chunk], state)
        if find_stale(result, state):
            # Either the name now points to exactly one other index, or reading its state raises.
            state = read_again(handle)
            result = send(handle, [({"delete": {"_id": identifier}}, None) for identifier in chunk], state)
        report += build_report(result)
    return report


def send(handle: IndexHandle, lines: list[BulkLine], state: IndexState) -> BulkResult:
    """Send lines rendered for a state of the index; if the whole request fails, each of its actions fails.

    Requests carry ``require_alias``: otherwise the engine would create a plain index of that name if ours no longer
    exists. During a migration this cannot work, because the old index's pipeline sets each document's ``_index`` to
    the concrete index, which is not an alias. Documents rejected for that reason, and all later ones, are sent without
    ``require_alias`` after checking that the index exists.

    Raises:
        IndexNotFound: the index no longer exists.
    """
    required = state.is_alias and handle.pinned is not state
    if not required:
        read_uuids(handle.cluster, state.name)
    try:
        result = handle.cluster.bulk(lines, index=state.name, require_alias=required)
    except ClusterError as error:
        ids = [str(next(iter(action.values()))["_id"]) for action, _ in lines]
        return BulkResult(tuple(BulkAnswer(identifier, str(error), 0, "") for identifier in ids))
    pinned = [row for row, answer in enumerate(result.answers) if required and _is_pinned(answer.why, state)]
    if not pinned:
        return result
    handle.pinned = state
    again = send(handle, [lines[row] for row in pinned], state)
    answers = list(result.answers)
    for row, answer in zip(pinned, again.answers, strict=True):
        answers[row] = answer
    return BulkResult(tuple(answers))


def build_report(result: BulkResult) -> WriteReport:
    """Turn the answers to bulk actions into a report."""
    failed = tuple(Failure(identifier, _explain(why)) for identifier, why in result.failed)
    return WriteReport(result.succeeded, failed)


def find_stale(result: BulkResult, state: IndexState) -> set[str]:
    """Return the ids of documents that another index than the state's accepted, or that were rejected as stale."""
    moved = not result.indices <= state.uuids.keys()
    return {answer.id for answer in result.answers if (_is_stale(answer.why) if answer.why else moved)}


def _is_pinned(why: str, state: IndexState) -> bool:
    """Whether a document was rejected only because its pipeline names the concrete index, which is not an alias."""
    return "[require_alias]" in why and any(f"[{concrete}]" in why for concrete in state.uuids)


def _is_stale(why: str) -> bool:
    """Whether a document was rejected because the index was replaced or no longer exists."""
    return (
        STALE_DOCUMENT in why
        or "index_not_found_exception" in why
        or "no write index is defined for alias" in why
        # An index without our pipeline, such as one created by a rollover, does not know this field.
        or ("strict_dynamic_mapping_exception" in why and f"[{FINGERPRINT}]" in why)
        or ("pipeline with id" in why and "does not exist" in why)
    )


def describe_owner(state: IndexState) -> dict[str, Any]:
    """Identify the index that a checkpoint belongs to; an index deleted and created again has another uuid."""
    return {
        "index": state.name,
        "concrete": dict(sorted(state.uuids.items())),
        "encoder": state.spec.encoder.spec(),
        "vectors": state.spec.vector_type,
    }


def _split(
    handle: IndexHandle, batches: Iterable[DocumentBatch], revisions: Sequence[Revision | None] | None
) -> Iterator[tuple[Batch, IndexState]]:
    """Yield validated pieces of the batches, each with the state that it was validated for."""
    for ids, content, metadata in batches:
        seen: set[str] = set()
        rows = content if isinstance(content, TermFrequencies) else np.atleast_2d(np.asanyarray(content))
        for start in range(0, len(ids), DOCUMENTS_PER_BULK):
            piece = slice(start, start + DOCUMENTS_PER_BULK)
            state = handle.state
            batch = check_batch(
                ids[piece],
                rows[piece],
                metadata[piece] if metadata is not None else None,
                encoder=state.spec.encoder,
                seen=seen,
                revisions=revisions[piece] if revisions is not None else None,
            )
            yield batch, state


def _index(
    handle: IndexHandle, batch: Batch, state: IndexState, lines: list[BulkLine]
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
        result = send(handle, lines, state)
        stale = find_stale(result, state)
        if not stale:
            return report + build_report(result), state
        now = read_again(handle)
        if now.is_same_index(state):
            return report + build_report(result), state
        fine = tuple(answer for answer in result.answers if answer.id not in stale)
        report, batch = report + build_report(BulkResult(fine)), batch.select(stale)
        if isinstance(batch.content, TermFrequencies) and now.spec.encoder.spec() != state.spec.encoder.spec():
            return report + _withdraw(handle, batch, now), now
        state, lines = now, bulk_lines(batch, now.spec, fingerprint=now.fingerprint)
    why = f"{handle.name!r} was replaced {MAX_REOPENINGS} times while this document was being written; add it again"
    return report + WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids)), state


def _withdraw(handle: IndexHandle, batch: Batch, state: IndexState) -> WriteReport:
    """Delete documents given as terms of an encoder that the index no longer has."""
    if state.fingerprint is None:  # with a fingerprint, the index has rejected them already
        send(handle, [({"delete": {"_id": identifier}}, None) for identifier in batch.ids], state)
    why = (
        f"the index changed to {state.spec.encoder} meanwhile, whose queries cannot match terms of another encoder; "
        "encode the document again with index.encoder"
    )
    return WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids))


def _count_lost(handle: IndexHandle, written: Counter[tuple[str, str]]) -> int:
    """Count acknowledged documents that may be lost because the index holding them was deleted.

    A migration copies the documents of the old index, so it loses none.
    """
    now = confirm_state(handle)
    lost = 0
    for (concrete, uuid), documents in written.items():
        if documents and uuid not in now.uuids.values() and now.migrated_from != concrete:
            try:
                kept = read_uuids(handle.cluster, concrete).get(concrete) == uuid
            except IndexNotFound:
                kept = False
            lost += 0 if kept else documents
    if lost:
        logger.warning(
            "%s was deleted and created again while documents were added; %d acknowledged documents may be lost",
            handle.name,
            lost,
        )
    return lost


def _explain(why: str) -> str:
    if why.startswith("version_conflict"):
        return f"the document was changed meanwhile; read it again and retry ({why})"
    return why
