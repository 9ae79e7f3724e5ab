"""What `Cluster.bulk` sends again, and for how long; the engine's part is played by a list of answers."""

from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import OpenSearch

from deepterms import engines
from deepterms.engines import Cluster

BLOCKED = ("index [i] blocked by: [FORBIDDEN/8/index write (api)];", 403)
FULL_DISK = ("index [i] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];", 403)
BUSY = ("rejected_execution_exception: queue is full", 429)
BAD = ("mapper_parsing_exception: no", 400)
FINE = ("", 200)

Answer = tuple[str, int]


class Script:
    """A cluster that gives each document its answers one after the other; the last stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[Answer]]) -> None:
        self.cluster = Cluster(OpenSearch("http://127.0.0.1:9"))
        self.answers = answers
        self.requests: list[list[str]] = []
        self.pauses: list[float] = []
        monkeypatch.setattr(self.cluster, "_bulk_once", self._once)
        monkeypatch.setattr("deepterms.engines.time.sleep", self.pauses.append)

    def _once(self, pairs: list[Any], *, index: str) -> list[tuple[str, str, int, str]]:
        ids = [action["index"]["_id"] for action, _ in pairs]
        self.requests.append(ids)
        results = []
        for identifier in ids:
            left = self.answers[identifier]
            why, status = left.pop(0) if len(left) > 1 else left[0]
            results.append((identifier, why, status, f"{index}-000001"))
        return results

    def bulk(self, took: set[str] | None = None) -> list[tuple[str, str]]:
        lines: list[Any] = [({"index": {"_id": identifier}}, "{}") for identifier in self.answers]
        return list(self.cluster.bulk(lines, index="i", took=took))


def test_only_what_passes_is_sent_again_and_outcomes_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"a": [BUSY, BUSY, FINE], "b": [BAD], "c": [BLOCKED, FINE], "d": [FINE], "e": [FULL_DISK]}
    script, took = Script(monkeypatch, answers), set[str]()
    assert script.bulk(took) == [("a", ""), ("b", BAD[0]), ("c", ""), ("d", ""), ("e", FULL_DISK[0])]
    assert script.requests == [["a", "b", "c", "d", "e"], ["a", "c"], ["a"]]
    assert script.pauses == [0.5, 1.0]
    assert took == {"i-000001"}


def test_a_write_block_is_waited_for_two_minutes_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, {"a": [BLOCKED]})
    assert script.bulk() == [("a", BLOCKED[0])]
    assert sum(script.pauses) == engines.BLOCK_PATIENCE_SECONDS


def test_a_full_queue_is_tried_six_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    script, took = Script(monkeypatch, {"a": [BUSY]}), set[str]()
    assert script.bulk(took) == [("a", BUSY[0])]
    assert script.pauses == [0.5, 1, 2, 4, 8, 16]
    assert took == set()
