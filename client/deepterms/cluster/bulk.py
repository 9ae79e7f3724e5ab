"""Bulk requests: sends documents until each has a final result, as fast as the cluster accepts them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK, Backpressure
from deepterms.cluster.patience import Patience
from deepterms.errors import ClusterError, ClusterUnreachable, RequestRejected

__all__ = [
    "BLOCK_WAIT_SECONDS",
    "WRITE_BLOCK",
    "BulkAnswer",
    "BulkLine",
    "BulkResult",
    "find_blocked_index",
    "name_block",
    "send_all",
]

BulkLine = tuple[dict[str, Any], str | None]
"""An action and its source as JSON text; None for an action without a source, such as a delete."""

# Overload, and the responses of a proxy while a node restarts.
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
TOO_LARGE = 413

# A migration briefly blocks writes before it moves the alias; blocked documents are sent again until it has done so.
BLOCK_WAIT_SECONDS = 0.5
WRITE_BLOCK = "FORBIDDEN/8/"  # the ID of the write block in both engines; a full disk has a different one
_BLOCKED_INDEX = re.compile(r"index \[([^\]]+)\] blocked by")
_LOST_SHARD = re.compile(r"unavailable_shards_exception: \[([^\]]+)\]\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """The result of one action.

    Attributes:
        id: ID of the document.
        reason: why the action failed; empty if it succeeded.
        status: HTTP status.
        index: the concrete index that processed it.
    """

    id: str
    reason: str
    status: int
    index: str


@dataclass(frozen=True)
class BulkResult:
    """The results of all actions of a call, in order.

    Attributes:
        answers: one per action.
    """

    answers: tuple[BulkAnswer, ...] = ()

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """ID and reason of each action, in order; the reason is empty if the action succeeded."""
        return [(answer.id, answer.reason) for answer in self.answers]

    @property
    def failed(self) -> list[tuple[str, str]]:
        """ID and reason of each failed action."""
        return [(answer.id, answer.reason) for answer in self.answers if answer.reason]

    @property
    def succeeded(self) -> int:
        """How many actions succeeded."""
        return len(self.answers) - len(self.failed)

    @property
    def indices(self) -> set[str]:
        """The concrete indices in which at least one action succeeded."""
        return {answer.index for answer in self.answers if not answer.reason}


class _Verdict(Enum):
    FINAL = auto()
    OVERLOADED = auto()
    BLOCKED = auto()
    UNAVAILABLE = auto()
    TOO_LARGE = auto()


def send_all(
    actions: Iterable[BulkLine],
    *,
    send: Callable[[str], Sequence[BulkAnswer]],
    backpressure: Backpressure,
    patience: Patience | None = None,
    waits_for_block: bool = True,
) -> BulkResult:
    """Send actions in as many requests as necessary, as documented at `deepterms.cluster.cluster.Cluster.bulk`.

    Args:
        actions: (action line, source line as JSON text or None) pairs.
        send: sends the lines, as text, in one request; returns one answer per pair.
        backpressure: batch size and backoff.
        patience: how long to wait for write blocks and for shards without a primary; None gives this call its own.
        waits_for_block: wait for write blocks; otherwise they are results like any other.
    """
    pairs = list(actions)
    lines = [json.dumps(action) + "\n" + ("" if source is None else source + "\n") for action, source in pairs]
    ids = [str(next(iter(action.values()))["_id"]) for action, _ in pairs]
    answers: dict[int, BulkAnswer] = {}
    lost: dict[int, str] = {}  # document → the shard that lacks a primary
    failure: ClusterUnreachable | RequestRejected | None
    got: Sequence[BulkAnswer]
    waiting, settled, rejections, stalled = list(range(len(pairs))), 0, 0, 0
    patience = patience or Patience(backpressure)
    while waiting:
        if refusal := patience.explain_refusal():
            answers.update({at: BulkAnswer(ids[at], refusal, 503, "") for at in waiting if at not in answers})
            break
        count = backpressure.count_fitting([len(lines[position]) for position in waiting[:DOCUMENTS_PER_BULK]])
        chunk, rest = waiting[:count], waiting[count:]
        text = "".join(lines[position] for position in chunk)
        try:
            got, failure = send(text), None
        except (ClusterUnreachable, RequestRejected) as error:
            failure, status = error, error.status if isinstance(error, RequestRejected) else 503
            got = [BulkAnswer(ids[position], str(error), status, "") for position in chunk]
        if len(got) != count:
            raise ClusterError(
                f"the response does not match the request: it lists {len(got)} documents, but {count} were sent"
            )
        if any(answer.id != ids[at] for at, answer in zip(chunk, got, strict=True)):
            raise ClusterError("the response does not match the request: it lists other document ids than were sent")
        answers.update(zip(chunk, got, strict=True))
        verdicts = [
            _judge(answer, alone=count == 1, patience=patience, waits_for_block=waits_for_block) for answer in got
        ]
        for index in {answer.index for answer in got if not answer.reason}:
            patience.overcome(name_block(index))
        for at, answer in zip(chunk, got, strict=True):
            if not answer.reason and at in lost:
                patience.overcome(lost.pop(at))
            elif shard := find_lost_shard(answer):
                lost[at] = shard
        final = verdicts.count(_Verdict.FINAL)
        if failure and final and not settled:
            raise failure
        settled += final
        # Retries go last, so that a document that is always rejected does not hold up the others.
        waiting = rest + [at for at, verdict in zip(chunk, verdicts, strict=True) if verdict is not _Verdict.FINAL]
        if _Verdict.OVERLOADED in verdicts:
            rejected = got[verdicts.index(_Verdict.OVERLOADED)]
            rejections, stalled = rejections + 1, 0 if final else stalled + 1
            backpressure.shrink(count, rejected.reason)
            if stalled > backpressure.retries:
                backpressure.exhausted = True
                if failure or not settled:
                    patience.give_up(rejected.reason)
                if failure and not settled:
                    raise failure
                answers.update({at: replace(rejected, id=ids[at]) for at in waiting if at not in answers})
                break
            backpressure.back_off(rejections, documents=len(waiting), reason=rejected.reason)
        elif _Verdict.TOO_LARGE in verdicts:
            backpressure.shrink_characters(len(text))
        elif _Verdict.BLOCKED in verdicts or _Verdict.UNAVAILABLE in verdicts:
            backpressure.wait(BLOCK_WAIT_SECONDS)
        else:
            rejections = stalled = 0
            backpressure.grow()
    return BulkResult(tuple(answers[position] for position in range(len(pairs))))


def name_block(index: str) -> str:
    """Name the write block of an index, for `Patience`."""
    return f"the write block of {index} to be removed"


def _judge(answer: BulkAnswer, *, alone: bool, patience: Patience, waits_for_block: bool) -> _Verdict:
    if not answer.reason:
        return _Verdict.FINAL
    if shard := find_lost_shard(answer):  # the engine has already waited; smaller requests would not help
        return _Verdict.UNAVAILABLE if patience.allows(shard, in_engine=True) else _Verdict.FINAL
    if answer.status in RETRYABLE_STATUSES:
        return _Verdict.OVERLOADED
    if answer.status == TOO_LARGE and not alone:
        return _Verdict.TOO_LARGE
    if answer.status == 403 and WRITE_BLOCK in answer.reason and waits_for_block:
        return _Verdict.BLOCKED if patience.allows(name_block(find_blocked_index(answer))) else _Verdict.FINAL
    return _Verdict.FINAL


def find_lost_shard(answer: BulkAnswer) -> str:
    """Name, for `Patience`, the shard that rejected a document for want of a primary; empty if none did."""
    match = _LOST_SHARD.search(answer.reason) if answer.status == 503 else None
    return f"a primary of shard {match[2]} of {match[1]}" if match else ""


def find_blocked_index(answer: BulkAnswer) -> str:
    """Find the index whose write block rejected a document."""
    match = _BLOCKED_INDEX.search(answer.reason)
    return match[1] if match else answer.index
