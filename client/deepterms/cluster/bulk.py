"""Bulk requests: documents sent until each has its final answer, as fast as the cluster can take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK, Backpressure
from deepterms.errors import ClusterError, ClusterUnreachable, RequestRejected

__all__ = ["BulkAnswer", "BulkLine", "BulkResult", "send_all"]

BulkLine = tuple[dict[str, Any], str | None]
"""An action, and the source as JSON text; None for an action that has none, such as a delete."""

# Too much to do, and what a proxy says of a node that is restarting.
RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
TOO_LARGE = 413

# A migration blocks writes for a moment before it moves the alias; a document refused by that is sent again until then.
BLOCK_WAIT_SECONDS = 0.5
BLOCK_PATIENCE_SECONDS = 120
WRITE_BLOCK = "FORBIDDEN/8/"  # the write block's own number in both engines; a full disk has another


class BulkAnswer(NamedTuple):
    """What became of one action.

    Attributes:
        id: of the document.
        why: it failed; empty if it succeeded.
        status: of HTTP.
        where: the concrete index that took it.
    """

    id: str
    why: str
    status: int
    where: str


@dataclass(frozen=True)
class BulkResult:
    """What became of all actions of a call, in their order.

    Attributes:
        answers: one per action.
    """

    answers: tuple[BulkAnswer, ...] = ()

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """Id and reason of each action, in order; the reason is empty for one that succeeded."""
        return [(answer.id, answer.why) for answer in self.answers]

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Id and reason of each action that failed."""
        return [(answer.id, answer.why) for answer in self.answers if answer.why]

    @property
    def succeeded(self) -> int:
        """How many actions succeeded."""
        return len(self.answers) - len(self.failed)

    @property
    def indices(self) -> set[str]:
        """The concrete indices in which any action succeeded."""
        return {answer.where for answer in self.answers if not answer.why}


class _Verdict(Enum):
    FINAL = auto()
    OVERLOADED = auto()
    BLOCKED = auto()
    TOO_LARGE = auto()


def send_all(
    actions: Iterable[BulkLine], *, send: Callable[[str], Sequence[BulkAnswer]], backpressure: Backpressure
) -> BulkResult:
    """Send actions in as many requests as it takes; as `deepterms.cluster.cluster.Cluster.bulk`.

    Args:
        actions: (action line, source line as JSON text or None) pairs.
        send: one request of these lines, as text; returns an answer a pair.
        backpressure: how much at once, and how long to wait.
    """
    pairs = list(actions)
    lines = [json.dumps(action) + "\n" + ("" if source is None else source + "\n") for action, source in pairs]
    ids = [str(next(iter(action.values()))["_id"]) for action, _ in pairs]
    answers: dict[int, BulkAnswer] = {}
    failure: ClusterUnreachable | RequestRejected | None
    got: Sequence[BulkAnswer]
    waiting, settled, refusals, stalled, patience = list(range(len(pairs))), 0, 0, 0, float(BLOCK_PATIENCE_SECONDS)
    while waiting:
        count = backpressure.fitting([len(lines[position]) for position in waiting[:DOCUMENTS_PER_BULK]])
        chunk, rest = waiting[:count], waiting[count:]
        text = "".join(lines[position] for position in chunk)
        try:
            got, failure = send(text), None
        except (ClusterUnreachable, RequestRejected) as error:
            failure, status = error, error.status if isinstance(error, RequestRejected) else 503
            got = [BulkAnswer(ids[position], str(error), status, "") for position in chunk]
        if len(got) != count:
            raise ClusterError(f"{count} documents were sent, and the cluster's answer is about {len(got)}")
        if any(answer.id != ids[at] for at, answer in zip(chunk, got, strict=True)):
            raise ClusterError("the cluster's answer is about others than those that were sent")
        answers.update(zip(chunk, got, strict=True))
        verdicts = [_verdict(answer, alone=count == 1, patient=patience > 0) for answer in got]
        final = verdicts.count(_Verdict.FINAL)
        if failure and final and not settled:
            raise failure
        settled += final
        # What is sent again goes last, so that one document that is refused for ever holds up no other.
        waiting = rest + [at for at, verdict in zip(chunk, verdicts, strict=True) if verdict is not _Verdict.FINAL]
        if _Verdict.OVERLOADED in verdicts:
            refused = got[verdicts.index(_Verdict.OVERLOADED)]
            refusals, stalled = refusals + 1, 0 if final else stalled + 1
            backpressure.shrink(count, refused.why)
            if stalled > backpressure.retries:
                backpressure.exhausted = True
                if failure and not settled:
                    raise failure
                answers.update({at: refused._replace(id=ids[at]) for at in waiting if at not in answers})
                break
            backpressure.pause(refusals, documents=len(waiting), why=refused.why)
        elif _Verdict.TOO_LARGE in verdicts:
            backpressure.too_large(len(text))
        elif _Verdict.BLOCKED in verdicts:
            patience -= BLOCK_WAIT_SECONDS
            backpressure.wait(BLOCK_WAIT_SECONDS)
        else:
            refusals = stalled = 0
            backpressure.accepted()
    return BulkResult(tuple(answers[position] for position in range(len(pairs))))


def _verdict(answer: BulkAnswer, *, alone: bool, patient: bool) -> _Verdict:
    if not answer.why:
        return _Verdict.FINAL
    if answer.status in RETRYABLE_STATUSES:
        return _Verdict.OVERLOADED
    if answer.status == TOO_LARGE and not alone:
        return _Verdict.TOO_LARGE
    if answer.status == 403 and WRITE_BLOCK in answer.why and patient:
        return _Verdict.BLOCKED
    return _Verdict.FINAL
