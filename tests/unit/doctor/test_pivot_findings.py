from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.doctor.pivot_findings import judge_lists, judge_orphans, judge_pivots, judge_reach, measure_unevenness
from deepterms.encoders.pivots.pivots import FAR_QUANTILE, measure_nearest_cosines, measure_reach
from deepterms.inspection.statistics import stats_of_counts
from deepterms.results import IndexStats

PIVOTS = 1_000
# How many pivots a query names is no matter of how even the lists are.
ENCODER = dt.PivotPermutation(dt.Pivots(np.eye(PIVOTS, 4) + 1), top_k=4, query_top_k=32)
DESCRIBED = {"count": PIVOTS, "dimensions": 1_280}


def stats(counts: np.ndarray[Any, np.dtype[np.int64]], *, documents: int, sampled: int | None = None) -> IndexStats:
    return stats_of_counts(
        np.arange(PIVOTS, dtype=np.int32),
        counts,
        encoder=ENCODER,
        sampled=sampled or documents,
        documents=documents,
        size=1,
        segments=1,
        engine="memory",
    )


def test_even_lists_are_even_however_many_documents_are_sampled() -> None:
    """4 words a document, drawn at random from 1,000: the estimate is 1 within its noise."""
    rng = np.random.default_rng(5)
    for documents, sampled in ((4_000, 4_000), (10**7, 4_000), (10**7, 2_000)):
        counts = np.bincount(rng.integers(0, PIVOTS, size=4 * sampled), minlength=PIVOTS)
        found = measure_unevenness(stats(counts, documents=documents, sampled=sampled), pivots=PIVOTS)
        assert found == pytest.approx(1, abs=0.1)
        assert (
            judge_lists("holidays", stats(counts, documents=documents, sampled=sampled), pivots=PIVOTS).level == "green"
        )


def test_half_of_the_words_in_a_hundredth_of_the_lists_is_told() -> None:
    counts = np.full(PIVOTS, 8)
    counts[:10] = 800  # a word of a document lies in a list of 405 documents on average, and of 16 if all are even
    found = judge_lists("holidays", stats(counts, documents=4_000), pivots=PIVOTS)
    assert found.level == "yellow"
    assert found.text == (
        "the longest posting list holds 20.00% of the documents; "
        "a query reads 25.4 times as many postings as with lists of equal length"
    )
    assert found.advice.endswith("deepterms migrate holidays --repivot 1000")
    pairs = judge_lists("holidays", stats(counts, documents=4_000), pivots=PIVOTS, single=False)
    assert (pairs.level, pairs.text) == ("green", "the longest posting list holds 20.00% of the documents")


def test_too_few_documents_say_nothing() -> None:
    counts = np.zeros(PIVOTS, dtype=np.int64)
    counts[:4] = 5
    found = judge_lists("holidays", stats(counts, documents=5), pivots=PIVOTS)
    assert (found.level, "times" in found.text) == ("green", False)
    assert judge_lists("holidays", stats(np.zeros(PIVOTS, dtype=np.int64), documents=0), pivots=PIVOTS).level == "green"


def test_companions() -> None:
    assert judge_pivots("holidays", DESCRIBED).text == "1,000 pivots of 1,280 dimensions, complete, checksum verified"
    lost = judge_pivots("holidays", DESCRIBED, why="there is no index x")
    assert (lost.level, "there is no index x" in lost.text) == ("red", True)
    assert "deepterms migrate holidays --repivot 1000" in lost.advice
    assert judge_orphans([]) is None
    orphans = judge_orphans(["b", "a"])
    assert orphans is not None
    assert (orphans.level, orphans.text) == ("yellow", "not used by any index: a, b")


@pytest.mark.parametrize(("far", "level"), [(0.0, "green"), (0.05, "green"), (0.15, "green"), (0.16, "yellow")])
def test_reach(far: float, level: str) -> None:
    found = judge_reach("holidays", far=far, bound=0.5, pivots=PIVOTS)
    assert found.level == level
    assert found.text.startswith(f"{far:.0%} of the documents")


def test_the_cosine_with_the_nearest_pivot(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 5)).astype(np.float32)
    for pivots in (dt.Pivots(rng.standard_normal((17, 5))), dt.Pivots(7 * rng.standard_normal((17, 5)), metric="l2")):
        units = [
            array / np.linalg.norm(array, axis=1, keepdims=True) for array in (rows, pivots.features.astype(float))
        ]
        expected = (units[0] @ units[1].T).max(axis=1)
        assert measure_nearest_cosines(rows, pivots) == pytest.approx(expected, abs=1e-5)
        monkeypatch.setattr("deepterms.encoders.pivots.pivots.PIVOTS_AT_ONCE", 4)
        assert measure_nearest_cosines(rows, pivots) == pytest.approx(expected, abs=1e-5)
        reach = measure_reach(rows, pivots)
        assert reach is not None
        assert (reach.low, reach.middle) == pytest.approx(np.quantile(expected, [FAR_QUANTILE, 0.5]), abs=1e-5)
        assert reach.rows == 30


def test_a_pivot_is_no_measure_of_reach() -> None:
    rows = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    reach = measure_reach(rows, dt.Pivots(rows[:20]))
    assert reach is not None
    assert reach.rows == 10
    assert measure_reach(rows, dt.Pivots(rows)) is None
    assert measure_reach(rows[:0], dt.Pivots(rows)) is None


def test_zero_pivots_have_no_direction() -> None:
    assert measure_nearest_cosines(
        np.ones((2, 3), dtype=np.float32), dt.Pivots(np.zeros((1, 3)), metric="l2")
    ).tolist() == [
        -1,
        -1,
    ]


@pytest.mark.parametrize("method", ["mixtures", "rows", "farthest"])
def test_sampled_pivots_know_their_reach(method: Any) -> None:
    """One in twenty of the collection itself is beyond it; of another one, nearly all."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, 24))
    here = (centres[rng.integers(0, 20, 3_000)] + 0.4 * rng.standard_normal((3_000, 24))).astype(np.float32)
    there = (centres[rng.integers(20, 40, 3_000)] + 0.4 * rng.standard_normal((3_000, 24))).astype(np.float32)
    pivots = dt.sample_pivots(here, 200, method=method)
    assert pivots.reach is not None
    assert 0.02 < (measure_nearest_cosines(here, pivots) < pivots.reach.low).mean() < 0.09
    assert (measure_nearest_cosines(there, pivots) < pivots.reach.low).mean() > 0.9
    assert dt.Pivots(pivots.features) == pivots  # no part of what they are
