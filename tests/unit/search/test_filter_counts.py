"""Counts of the documents that filters keep: requested from the engine, cached for a second, bounded."""

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
    """Returns the given counts in turn, and records the filters requested."""

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


def test_a_filter_is_counted_once_per_second() -> None:
    clock, engine = Clock(), Engine(10, 20, 30)
    known = counts(engine, clock)
    assert known.get(EVEN) == known.get(dict(EVEN)) == Kept(10, 100)
    assert known.get(ODD) == Kept(20, 100)
    clock.now += 0.999
    assert known.get(EVEN) == Kept(10, 100)
    assert engine.asked == [EVEN, ODD]
    clock.now += 0.001
    assert known.get(EVEN) == Kept(30, 100)
    assert engine.asked == [EVEN, ODD, EVEN]


def test_forget_shows_new_documents_at_once() -> None:
    known = counts(Engine(10, 11))
    assert known.get(EVEN) == Kept(10, 100)
    known.forget()
    assert known.get(EVEN) == Kept(11, 100)


def test_a_filter_without_matches_is_counted_every_time() -> None:
    known = counts(Engine(0, 0, 1, 2))
    assert [known.get(EVEN) for _ in range(4)] == [Kept(0, 100), Kept(0, 100), Kept(1, 100), Kept(1, 100)]


def test_incomplete_counts_are_not_cached() -> None:
    known = counts(Engine(Engine.counted(3, failed=1), 7))
    assert known.get(EVEN) is None
    assert known.get(EVEN) == Kept(7, 100)


def test_a_filter_the_engine_rejects_is_an_error() -> None:
    known = counts(Engine({"error": {"type": "parsing_exception", "reason": "no such query"}, "status": 400}, 7))
    with pytest.raises(RequestRejected, match="no such query"):
        known.get(EVEN)
    assert known.get(EVEN) == Kept(7, 100)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_counts, "MAX_FILTERS", 3)
    engine = Engine(*range(1, 12))
    known = counts(engine)
    for year in range(10):
        known.get({"term": {"metadata.year": year}})
        assert len(known._known) <= 3
    assert known.get({"term": {"metadata.year": 9}}) == Kept(10, 100)
    assert len(engine.asked) == 10
