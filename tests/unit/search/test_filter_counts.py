"""How many documents filters keep: asked of the engine, remembered for a second, bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deepterms.errors import RequestRejected
from deepterms.search import filter_counts
from deepterms.search.filter_counts import FilterCounts, Kept

EVEN = {"term": {"metadata.even": True}}
ODD = {"term": {"metadata.even": False}}


class Engine:
    """Answers counts, one after the other, and knows what it was asked."""

    def __init__(self, *counts: int | dict[str, Any]) -> None:
        self.answers = [self.counted(count) if isinstance(count, int) else count for count in counts]
        self.asked: list[Any] = []

    @staticmethod
    def counted(count: int, failed: int = 0) -> dict[str, Any]:
        shards = {"total": 2, "successful": 2 - failed, "failed": failed}
        return {"hits": {"total": {"value": count, "relation": "eq"}, "hits": []}, "_shards": shards}

    def search_many(self, bodies: Sequence[Mapping[str, Any]], *, index: str) -> list[dict[str, Any]]:
        assert index == "i"
        assert all(body["size"] == 0 and body["track_total_hits"] is True for body in bodies)
        self.asked.append(bodies[0]["query"])
        return [self.answers.pop(0), self.counted(100)]


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def counts(engine: Any, clock: Clock | None = None) -> FilterCounts:
    return FilterCounts(engine, "i", clock=clock or Clock())


def test_a_filter_is_counted_once_a_second() -> None:
    clock, engine = Clock(), Engine(10, 20, 30)
    known = counts(engine, clock)
    assert known.of(EVEN) == known.of(dict(EVEN)) == Kept(10, 100)
    assert known.of(ODD) == Kept(20, 100)
    clock.now += 0.999
    assert known.of(EVEN) == Kept(10, 100)
    assert engine.asked == [EVEN, ODD]
    clock.now += 0.001
    assert known.of(EVEN) == Kept(30, 100)
    assert engine.asked == [EVEN, ODD, EVEN]


def test_what_was_written_counts_at_once() -> None:
    known = counts(Engine(10, 11))
    assert known.of(EVEN) == Kept(10, 100)
    known.forget()
    assert known.of(EVEN) == Kept(11, 100)


def test_a_filter_that_keeps_nothing_is_counted_each_time() -> None:
    known = counts(Engine(0, 0, 1, 2))
    assert [known.of(EVEN) for _ in range(4)] == [Kept(0, 100), Kept(0, 100), Kept(1, 100), Kept(1, 100)]


def test_what_is_not_whole_is_not_remembered() -> None:
    known = counts(Engine(Engine.counted(3, failed=1), 7))
    assert known.of(EVEN) is None
    assert known.of(EVEN) == Kept(7, 100)


def test_a_filter_that_the_engine_cannot_read_is_an_error() -> None:
    known = counts(Engine({"error": {"type": "parsing_exception", "reason": "no such query"}, "status": 400}, 7))
    with pytest.raises(RequestRejected, match="no such query"):
        known.of(EVEN)
    assert known.of(EVEN) == Kept(7, 100)


def test_as_many_filters_as_there_are_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_counts, "MOST", 3)
    engine = Engine(*range(1, 12))
    known = counts(engine)
    for year in range(10):
        known.of({"term": {"metadata.year": year}})
        assert len(known._known) <= 3
    assert known.of({"term": {"metadata.year": 9}}) == Kept(10, 100)
    assert len(engine.asked) == 10
