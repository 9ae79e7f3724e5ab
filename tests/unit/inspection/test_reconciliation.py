"""Missing and extra ids of an index in memory; responses of a cluster that lack documents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.responses import is_incomplete
from deepterms.errors import InvalidInput
from deepterms.inspection import reconciliation


@pytest.fixture
def index() -> dt.MemoryIndex:
    memory = dt.MemoryIndex(dt.DeepPermutation(8, top_k=3))
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    memory.add([f"d{number}" for number in range(50)], rows)
    return memory


def test_a_complete_index_is_equal(index: dt.MemoryIndex) -> None:
    report = index.reconcile(f"d{number % 50}" for number in range(100))  # a stream, each id twice
    assert report == dt.Reconciliation(50)
    assert report.equal


def test_missing_and_extra_ids_of_equal_number(index: dt.MemoryIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "IDS_PER_REQUEST", 7)
    report = index.reconcile([f"d{number}" for number in range(2, 52)])
    assert (report.missing, report.missing_count) == (("d50", "d51"), 2)
    assert (sorted(report.extra), report.extra_count) == (["d0", "d1"], 2)
    assert not report.equal


def test_no_expected_ids_and_an_empty_index(index: dt.MemoryIndex) -> None:
    assert index.reconcile([]).extra_count == 50
    assert dt.MemoryIndex(index.encoder).reconcile([]) == dt.Reconciliation(0)
    assert dt.MemoryIndex(index.encoder).reconcile(["a"]).missing == ("a",)
    with pytest.raises(InvalidInput, match="a sequence of ids"):
        index.reconcile("d1")


def test_listed_ids_are_bounded_but_counts_are_not(index: dt.MemoryIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "MAX_NAMED", 5)
    monkeypatch.setattr(reconciliation, "IDS_PER_REQUEST", 4)

    def ids() -> Iterator[str]:
        for number in range(30):
            yield f"other{number}"

    report = index.reconcile(ids())
    assert report.missing == tuple(f"other{number}" for number in range(5))
    assert (report.missing_count, len(report.extra), report.extra_count) == (30, 5, 50)


@pytest.mark.parametrize(
    ("successful", "failed", "timed_out", "lacking"),
    [
        (3, 0, False, False),
        (2, 1, False, True),
        (3, 0, True, True),
        (2, 0, False, True),  # the response of engines if no copy of a shard is left
    ],
)
def test_a_response_without_a_shard_is_incomplete(successful: int, failed: int, timed_out: bool, lacking: bool) -> None:
    shards = {"total": 3, "successful": successful, "skipped": 0, "failed": failed}
    assert is_incomplete({"timed_out": timed_out, "_shards": shards}) is lacking
