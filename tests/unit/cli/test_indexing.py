"""A feature store is sent shard by shard, and a checkpoint of another index is discarded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cli import store_indexing
from deepterms.cli.store_indexing import add_store
from deepterms.features import FeatureStore, write_store
from deepterms.index.checkpoint import Checkpoint
from deepterms.results import Failure


class Target:
    """Records the ids it is sent, and rejects some."""

    def __init__(self, rejected: Sequence[str] = ()) -> None:
        self.sent: list[str] = []
        self.metadata: dict[str, Any] = {}
        self.rejected = rejected

    def add_batches(
        self, batches: Iterable[Any], *, on_progress: Callable[[int], None] | None = None
    ) -> dt.WriteReport:
        report = dt.WriteReport(0)
        for ids, _, metadata in batches:
            self.sent += ids
            self.metadata |= dict(zip(ids, metadata, strict=True))
            failed = tuple(Failure(item_id, "no") for item_id in ids if item_id in self.rejected)
            report += dt.WriteReport(len(ids) - len(failed), failed)
            if on_progress is not None:
                on_progress(len(ids))
        return report


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    ids = ["a.jpg", "b/c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    features = np.eye(5, dtype=np.float32)
    paths = [f"/photos/{item_id}" for item_id in ids]
    return write_store([(ids, features, paths)], tmp_path / "store", dimensions=5, spec={}, shard_size=2)


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the checkpoint belongs to, instead of an index in a cluster."""
    owner = {"index": "cams", "concrete": "1"}
    monkeypatch.setattr(store_indexing, "confirm_state", lambda target: None)
    monkeypatch.setattr(store_indexing, "describe_owner", lambda state: owner)
    return owner


def add(target: Any, store: Any, checkpoint: Path | None) -> dt.WriteReport:
    return add_store(target, store, checkpoint=checkpoint)


def test_only_shards_with_a_rejected_document_are_sent_again(tmp_path: Path, store: FeatureStore) -> None:
    first = add(Target(rejected=["d.jpg"]), store, tmp_path / "sent")
    assert (first.succeeded, first.skipped, [failure.id for failure in first.failed]) == (4, 0, ["d.jpg"])
    target = Target()
    second = add(target, store, tmp_path / "sent")
    assert (second.succeeded, second.skipped, target.sent) == (5, 3, ["d.jpg", "e.jpg"])
    assert add(Target(), store, tmp_path / "sent").skipped == 5
    everything = Target()
    assert add(everything, store, None).skipped == 0
    assert everything.sent == store.ids
    assert everything.metadata["a.jpg"] == {"path": "/photos/a.jpg"}
    assert everything.metadata["b/c.jpg"] == {"path": "/photos/b/c.jpg", "folder": "b"}


def test_a_kill_costs_one_group(tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_indexing, "MAX_GROUP", 2)

    class Killed(Target):
        def add_batches(self, batches: Iterable[Any], **options: Any) -> dt.WriteReport:
            if self.sent:
                raise KeyboardInterrupt
            return super().add_batches(batches, **options)

    with pytest.raises(KeyboardInterrupt):
        add(Killed(), store, tmp_path / "sent")
    assert add(Target(), store, tmp_path / "sent").skipped == 2


def test_a_checkpoint_of_another_index_is_discarded(
    tmp_path: Path, store: FeatureStore, owner: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with Checkpoint(tmp_path / "sent", owner={**owner, "concrete": "2"}):
        pass
    assert add(Target(), store, tmp_path / "sent").succeeded == 5
    assert "starting over: the checkpoint" in " ".join(capsys.readouterr().err.split())
    assert add(Target(), store, tmp_path / "sent").skipped == 5
