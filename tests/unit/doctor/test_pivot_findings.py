from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.doctor.pivot_findings import judge_lists, judge_orphans, judge_pivots, judge_reach, measure_unevenness
from deepterms.inspection.statistics import estimate_stats
from deepterms.results import IndexStats

PIVOTS = 1_000
# query_top_k does not affect how even the lists are.
ENCODER = dt.PivotPermutation(dt.Pivots(np.eye(PIVOTS, 4) + 1), top_k=4, query_top_k=32)
DESCRIBED = {"count": PIVOTS, "dimensions": 1_280}


def stats(counts: np.ndarray[Any, np.dtype[np.int64]], *, documents: int, sampled: int | None = None) -> IndexStats:
    return estimate_stats(
        np.arange(PIVOTS, dtype=np.int32),
        counts,
        encoder=ENCODER,
        sampled=sampled or documents,
        documents=documents,
        size=1,
        segments=1,
        engine="memory",
    )


def test_even_lists_are_even_at_any_sample_size() -> None:
    """With 4 random words out of 1,000 per document, the estimate is 1 within its noise."""
    rng = np.random.default_rng(5)
    for documents, sampled in ((4_000, 4_000), (10**7, 4_000), (10**7, 2_000)):
        counts = np.bincount(rng.integers(0, PIVOTS, size=4 * sampled), minlength=PIVOTS)
        found = measure_unevenness(stats(counts, documents=documents, sampled=sampled), pivots=PIVOTS)
        assert found == pytest.approx(1, abs=0.1)
        assert (
            judge_lists("holidays", stats(counts, documents=documents, sampled=sampled), pivots=PIVOTS).level == "green"
        )


def test_uneven_lists_are_reported() -> None:
    counts = np.full(PIVOTS, 8)
    counts[:10] = 800  # the list of a random word of a document has 405 documents on average, and 16 if all are even
    found = judge_lists("holidays", stats(counts, documents=4_000), pivots=PIVOTS)
    assert found.level == "yellow"
    assert found.text == (
        "the longest posting list holds 20.00% of the documents; "
        "a query reads 25.4 times as many postings as with lists of equal length"
    )
    assert found.advice.endswith("deepterms migrate holidays --repivot 1000")
    pairs = judge_lists("holidays", stats(counts, documents=4_000), pivots=PIVOTS, single=False)
    assert (pairs.level, pairs.text) == ("green", "the longest posting list holds 20.00% of the documents")


def test_too_few_documents_are_inconclusive() -> None:
    counts = np.zeros(PIVOTS, dtype=np.int64)
    counts[:4] = 5
    found = judge_lists("holidays", stats(counts, documents=5), pivots=PIVOTS)
    assert (found.level, "times" in found.text) == ("green", False)
    assert judge_lists("holidays", stats(np.zeros(PIVOTS, dtype=np.int64), documents=0), pivots=PIVOTS).level == "green"


def test_missing_and_orphaned_pivots() -> None:
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
