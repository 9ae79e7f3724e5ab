"""Ingest: documents to an index in bulk requests, several in flight, whatever happens to its name meanwhile."""

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
from deepterms.index.checkpoint import Checkpoint, piece_hash
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.results import Failure, Revision, WriteReport
from deepterms.schema.documents import Batch, build_bulk_lines, check_batch
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
    "delete",
    "owner_of",
    "report_of",
    "send",
    "stale_ids",
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
    """As `SurrogateIndex.add_batches`; revisions are those of the only batch."""
    report = WriteReport(0)
    waiting: deque[tuple[str, Future[tuple[WriteReport, IndexState]]]] = deque()
    written: Counter[tuple[str, str]] = Counter()  # (concrete index, uuid) → documents acknowledged
    first = confirm_state(handle)
    with (
        span("deepterms.add", index=handle.name) as spanned,
        ThreadPoolExecutor(threads, thread_name_prefix="deepterms-bulk") as pool,
        nullcontext() if checkpoint is None else Checkpoint(checkpoint, owner=owner_of(first)) as noted,
    ):

        def collect() -> WriteReport:
            piece, sent = waiting.popleft()
            finished, state = sent.result()
            for identity in state.uuids.items():
                written[identity] += finished.succeeded
            if noted is not None and not finished.failed:
                noted.record(piece, documents=finished.succeeded)
            if on_progress is not None:
                on_progress(finished.succeeded + len(finished.failed))
            return finished

        for batch, state in _pieces(handle, batches, revisions):
            if batch.failed:
                report += WriteReport(0, batch.failed)
            if not batch.ids:
                continue
            piece = "" if noted is None else piece_hash(batch)
            if noted is not None and noted.holds(piece):
                report += WriteReport(len(batch.ids), skipped=len(batch.ids))
                if on_progress is not None:
                    on_progress(len(batch.ids))
                continue
            lines = build_bulk_lines(batch, state.spec, fingerprint=state.fingerprint)
            waiting.append((piece, pool.submit(_index, handle, batch, state, lines)))
            # Encoding runs ahead of the requests by one piece per thread, no further.
            while len(waiting) > 2 * threads:
                report += collect()
        while waiting:
            report += collect()
        lost = _count_lost(handle, written)
        spanned.note(documents=report.succeeded - lost, failed=len(report.failed))
    return WriteReport(report.succeeded - lost, report.failed, report.skipped, lost) if lost else report


def delete(handle: IndexHandle, ids: Sequence[str]) -> WriteReport:
    """As `SurrogateIndex.delete`."""
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
    report = WriteReport(0)
    remaining = iter(ids)
    state = confirm_state(handle)
    while chunk := list(islice(remaining, DOCUMENTS_PER_BULK)):
        result = send(handle, [({"delete": {"_id": identifier}}, None) for identifier in chunk], state)
        if _missed(result, state):
            # By now the name points to one other index, which these deletes reached, or this raises.
            state = read_again(handle)
            result = send(handle, [({"delete": {"_id": identifier}}, None) for identifier in chunk], state)
        report += report_of(result)
    return report


def send(handle: IndexHandle, lines: list[BulkLine], state: IndexState) -> BulkResult:
    """Send lines that were made for a state of the index; a request that fails as a whole fails each of its actions.

    The name must be an alias, or else the engine would create a plain index of that name when the index is gone. Only
    a migration makes exceptions: the old index's pipeline then writes that index's own name into each document, which
    is no alias. Documents that are rejected for that, and all later ones, are sent after a look whether it is there.

    Raises:
        IndexNotFound: the index is gone.
    """
    required = state.is_alias and handle.pinned is not state
    if not required:
        read_uuids(handle.cluster, state.name)
    try:
        result = handle.cluster.bulk(lines, index=state.name, require_alias=required)
    except ClusterError as error:
        ids = [str(next(iter(action.values()))["_id"]) for action, _ in lines]
        return BulkResult(tuple(BulkAnswer(identifier, str(error), 0, "") for identifier in ids))
    pinned = [row for row, answer in enumerate(result.answers) if required and _is_pinned(answer.reason, state)]
    if not pinned:
        return result
    handle.pinned = state
    again = send(handle, [lines[row] for row in pinned], state)
    answers = list(result.answers)
    for row, answer in zip(pinned, again.answers, strict=True):
        answers[row] = answer
    return BulkResult(tuple(answers))


def report_of(result: BulkResult) -> WriteReport:
    """What became of actions, for whoever asked for them."""
    failed = tuple(Failure(identifier, _explain(why)) for identifier, why in result.failed)
    return WriteReport(result.succeeded, failed)


def stale_ids(result: BulkResult, state: IndexState) -> set[str]:
    """The documents of a result that another index than that of the state rejected, or took."""
    moved = not result.indices <= state.uuids.keys()
    return {answer.id for answer in result.answers if (_is_stale(answer.reason) if answer.reason else moved)}


def _missed(result: BulkResult, state: IndexState) -> bool:
    return bool(stale_ids(result, state))


def _is_pinned(why: str, state: IndexState) -> bool:
    """Whether a document was rejected only because its pipeline names the concrete index, which is no alias."""
    return "[require_alias]" in why and any(f"[{concrete}]" in why for concrete in state.uuids)


def _is_stale(why: str) -> bool:
    """Whether a document was rejected because the index is another one by now, or gone."""
    return (
        STALE_DOCUMENT in why
        or "index_not_found_exception" in why
        or "no write index is defined for alias" in why
        # Indices that the client did not create do not know this member: the engine made one by rollover, for example.
        or ("strict_dynamic_mapping_exception" in why and f"[{FINGERPRINT}]" in why)
        or ("pipeline with id" in why and "does not exist" in why)
    )


def owner_of(state: IndexState) -> dict[str, Any]:
    """What a checkpoint belongs to; an index that is deleted and created again has another uuid."""
    return {
        "index": state.name,
        "concrete": dict(sorted(state.uuids.items())),
        "encoder": state.spec.encoder.spec(),
        "vectors": state.spec.vector_type,
    }


def _pieces(
    handle: IndexHandle, batches: Iterable[DocumentBatch], revisions: Sequence[Revision | None] | None
) -> Iterator[tuple[Batch, IndexState]]:
    """A piece of each batch at a time, checked, with the state that it was checked for."""
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
    """Send a batch; what another index rejects or takes is encoded again for that one.

    Returns:
        What became of the batch, and the state of the index that holds it.

    Raises:
        IndexNotFound: the index is gone.
        ClusterError: the name points to several indices, or to one that deepterms did not create.
    """
    report = WriteReport(0)
    for _ in range(MAX_REOPENINGS):
        result = send(handle, lines, state)
        stale = stale_ids(result, state)
        if not stale:
            return report + report_of(result), state
        now = read_again(handle)
        if now.is_same_index(state):
            return report + report_of(result), state
        fine = tuple(answer for answer in result.answers if answer.id not in stale)
        report, batch = report + report_of(BulkResult(fine)), batch.select(stale)
        if isinstance(batch.content, TermFrequencies) and now.spec.encoder.spec() != state.spec.encoder.spec():
            return report + _withdraw(handle, batch, now), now
        state, lines = now, build_bulk_lines(batch, now.spec, fingerprint=now.fingerprint)
    why = f"{handle.name!r} was replaced {MAX_REOPENINGS} times while this document was written; add it again"
    return report + WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids)), state


def _withdraw(handle: IndexHandle, batch: Batch, state: IndexState) -> WriteReport:
    """Delete documents that came as terms of another encoder than the index turned out to have."""
    if state.fingerprint is None:  # otherwise the index has rejected them
        send(handle, [({"delete": {"_id": identifier}}, None) for identifier in batch.ids], state)
    why = (
        f"the index moved to {state.spec.encoder} meanwhile, and terms of another encoder would never be found; "
        "make them again with index.encoder"
    )
    return WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids))


def _count_lost(handle: IndexHandle, written: Counter[tuple[str, str]]) -> int:
    """How many acknowledged documents may be gone, since somebody deleted the index that took them.

    A migration copies the documents of the old index, so nothing is lost by one.
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
            "%s was deleted and created again while documents were added; %d that were acknowledged before may be gone",
            handle.name,
            lost,
        )
    return lost


def _explain(why: str) -> str:
    if why.startswith("version_conflict"):
        return f"the document was changed meanwhile; read it again and decide again ({why})"
    return why
