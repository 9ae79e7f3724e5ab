"""Bulk requests to an index by its name: sent so that no other index takes them, and judged afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deepterms.cluster.bulk import (
    BLOCK_WAIT_SECONDS,
    WRITE_BLOCK,
    BulkAnswer,
    BulkLine,
    BulkResult,
    find_blocked_index,
    name_block,
)
from deepterms.cluster.patience import Patience
from deepterms.errors import ClusterError
from deepterms.index.handle import IndexHandle, confirm_state
from deepterms.results import Failure, WriteReport
from deepterms.schema.index_pipeline import STALE_DOCUMENT
from deepterms.schema.index_spec import FINGERPRINT, IndexState
from deepterms.schema.rejections import explain_rejection
from deepterms.storage.index_state import read_uuids

__all__ = ["build_report", "find_stale", "send"]


def send(
    handle: IndexHandle, lines: list[BulkLine], state: IndexState, *, patience: Patience | None = None
) -> BulkResult:
    """Send lines rendered for a state of the index; if the whole request fails, each of its actions fails.

    Requests carry ``require_alias``: otherwise the engine would create a plain index of that name if ours no longer
    exists. During a migration this cannot work, because the old index's pipeline sets each document's ``_index`` to
    the concrete index, which is not an alias. Documents rejected for that reason, and all later ones, are sent without
    ``require_alias`` after checking that the index exists.

    Args:
        handle: the handle of the index.
        lines: the lines of a bulk request.
        state: the state that they were rendered for.
        patience: of the call that they are a part of; None gives them their own.

    Raises:
        IndexNotFound: the index no longer exists.
    """
    patience = patience or Patience(handle.cluster.backpressure)
    if not state.is_alias or handle.pinned is state:
        return _send_to_concrete(handle, lines, state, patience)
    result = _send(handle, lines, index=state.name, require_alias=True, patience=patience)
    pinned = [row for row, answer in enumerate(result.answers) if _is_pinned(answer, state)]
    if not pinned:
        return result
    handle.pinned = state
    return _replace_answers(result, pinned, _send_to_concrete(handle, [lines[row] for row in pinned], state, patience))


def build_report(result: BulkResult) -> WriteReport:
    """Turn the answers to bulk actions into a report."""
    failed = tuple(Failure(identifier, _explain(why)) for identifier, why in result.failed)
    return WriteReport(result.succeeded, failed)


def find_stale(result: BulkResult, state: IndexState) -> set[str]:
    """Return the ids of documents that another index than the state's accepted, or that were rejected as stale."""
    moved = not result.indices <= state.uuids.keys()
    return {answer.id for answer in result.answers if (_is_stale(answer.reason) if answer.reason else moved)}


def _send_to_concrete(handle: IndexHandle, lines: list[BulkLine], state: IndexState, patience: Patience) -> BulkResult:
    """Send lines to the concrete index by its own name, through its own pipeline.

    The pipeline is deleted with the index, and without it the engine rejects documents instead of creating the index
    again. While a migration blocks writes, an alias is watched: once it has moved, blocked documents are stale.
    """
    (concrete,) = state.uuids
    if state.fingerprint is None:  # the index has no pipeline of its own
        read_uuids(handle.cluster, concrete)
    pipeline = None if state.fingerprint is None else concrete
    options = {"index": concrete, "pipeline": pipeline, "patience": patience}
    result = _send(handle, lines, **options, waits_for_block=not state.is_alias)
    while state.is_alias:
        blocked = [row for row, answer in enumerate(result.answers) if WRITE_BLOCK in answer.reason]
        if not blocked or not patience.allows(name_block(find_blocked_index(result.answers[blocked[0]]))):
            break
        if not confirm_state(handle).is_same_index(state):
            reason = f"{STALE_DOCUMENT} the index has moved"
            moved = (replace(result.answers[row], reason=reason) for row in blocked)
            return _replace_answers(result, blocked, BulkResult(tuple(moved)))
        handle.cluster.backpressure.wait(BLOCK_WAIT_SECONDS)
        again = _send(handle, [lines[row] for row in blocked], **options, waits_for_block=False)
        result = _replace_answers(result, blocked, again)
    return result


def _send(handle: IndexHandle, lines: list[BulkLine], **options: Any) -> BulkResult:
    try:
        return handle.cluster.bulk(lines, **options)
    except ClusterError as error:
        ids = [str(next(iter(action.values()))["_id"]) for action, _ in lines]
        return BulkResult(tuple(BulkAnswer(identifier, str(error), 0, "") for identifier in ids))


def _replace_answers(result: BulkResult, rows: Sequence[int], again: BulkResult) -> BulkResult:
    """The result with the answers of some rows replaced by those of a second try."""
    answers = list(result.answers)
    for row, answer in zip(rows, again.answers, strict=True):
        answers[row] = answer
    return BulkResult(tuple(answers))


def _is_pinned(answer: BulkAnswer, state: IndexState) -> bool:
    """Whether a document was rejected only because its pipeline names the concrete index, which is not an alias."""
    return (
        answer.status == 404
        and answer.reason.startswith("index_not_found_exception")
        and "[require_alias]" in answer.reason
        and any(f"[{concrete}]" in answer.reason for concrete in state.uuids)
    )


def _is_stale(why: str) -> bool:
    """Whether a document was rejected because the index was replaced or no longer exists."""
    return (
        STALE_DOCUMENT in why
        or why.startswith("index_not_found_exception")
        or "no write index is defined for alias" in why
        # An index without our pipeline, such as one created by a rollover, does not know this field.
        or ("strict_dynamic_mapping_exception" in why and f"[{FINGERPRINT}]" in why)
        or ("pipeline with id" in why and "does not exist" in why)
    )


def _explain(why: str) -> str:
    if why.startswith("version_conflict"):
        return f"the document was changed meanwhile; read it again and retry ({why})"
    return explain_rejection(why)
