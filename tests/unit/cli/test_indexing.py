"""The command line discards the checkpoint of another index, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import deepterms as dt
from deepterms.cli.indexing import add_store
from deepterms.errors import CheckpointMismatch


class Store:
    def __len__(self) -> int:
        return 0

    def batches(self) -> list[Any]:
        return []


class Target:
    def add_batches(self, batches: Any, *, on_progress: Any, checkpoint: Path | None) -> dt.WriteReport:
        if checkpoint is None or checkpoint.exists():
            raise CheckpointMismatch("it belongs to another index")
        return dt.WriteReport(3)


def add(checkpoint: Path | None) -> dt.WriteReport:
    target: Any = Target()
    store: Any = Store()
    return add_store(target, store, checkpoint=checkpoint)


def test_a_checkpoint_of_another_index_is_discarded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").write_text("old")
    assert add(tmp_path / "old") == dt.WriteReport(3)
    assert "starting over: it belongs to another index" in " ".join(capsys.readouterr().err.split())


def test_a_mismatch_without_a_checkpoint_is_raised() -> None:
    with pytest.raises(CheckpointMismatch):
        add(None)
