"""Checkpoints and reconciliation on real clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.errors import CheckpointMismatch
from deepterms.index import ingest

ENCODER = dt.DeepPermutation(64, top_k=16)
IDS = [f"d{number}" for number in range(100)]
ROWS = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)


@pytest.fixture
def index(cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", 10)
    return dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0, shards=2)


def test_a_rerun_sends_only_new_or_changed_pieces(index: dt.SurrogateIndex, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    first = index.add_batches([(IDS[:50], ROWS[:50], None)], checkpoint=path)
    assert first == dt.WriteReport(50)
    index.delete(IDS[:1])
    rows = ROWS.copy()
    rows[15] = -rows[15]
    done: list[int] = []
    again = index.add_batches([(IDS, rows, None)], checkpoint=path, on_progress=done.append)
    assert again == dt.WriteReport(100, skipped=40)
    assert sum(done) == 100
    index.refresh()
    assert index.reconcile(IDS) == dt.Reconciliation(100, missing=("d0",), missing_count=1)
    document = index.get("d15")
    assert document is not None and document.vector is not None
    assert document.vector @ rows[15] > 0


def test_a_piece_with_a_rejected_document_is_sent_again(index: dt.SurrogateIndex, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    metadata: list[dict[str, Any]] = [{"year": 2018} for _ in IDS]
    metadata[33] = {"year": "not a number"}
    for skipped in (0, 90):
        report = index.add_batches([(IDS, ROWS, metadata)], checkpoint=path)
        assert [failure.id for failure in report.failed] == ["d33"]
        assert (report.succeeded, report.skipped) == (99, skipped)


def test_a_recreated_index_rejects_the_old_checkpoint(cluster: Any, index: dt.SurrogateIndex, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    index.add_batches([(IDS, ROWS, None)], checkpoint=path)
    index.drop()
    same = dt.SurrogateIndex.create(cluster, index.name, encoder=ENCODER, replicas=0)
    with pytest.raises(CheckpointMismatch, match=r"concrete is .*Delete it"):
        same.add_batches([(IDS, ROWS, None)], checkpoint=path)
    assert same.count() == 0


def test_missing_and_extra_documents_are_listed(index: dt.SurrogateIndex) -> None:
    index.add(IDS, ROWS)
    assert index.reconcile(iter(IDS)).equal
    report = index.reconcile([*IDS[:-2], "nowhere", "an id/with ? & ünusual characters"])
    assert report.missing == ("nowhere", "an id/with ? & ünusual characters")
    assert sorted(report.extra) == IDS[-2:]
    assert (report.expected, report.missing_count, report.extra_count) == (100, 2, 2)
