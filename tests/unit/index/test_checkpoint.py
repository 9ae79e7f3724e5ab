"""A checkpoint survives any interruption, and is rejected for another index or encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.errors import CheckpointMismatch
from deepterms.index.checkpoint import Checkpoint, hash_piece
from deepterms.schema.documents import check_batch

OWNER = {"index": "holidays", "concrete": {"deepterms-words-v1-holidays-000001": "u1"}, "encoder": {"top_k": 3}}
PIECES = [f"{number:032x}" for number in range(5)]


def note(path: Path, *pieces: str) -> None:
    with Checkpoint(path, owner=OWNER) as checkpoint:
        for piece in pieces:
            checkpoint.record(piece, documents=10)


def held(path: Path) -> tuple[list[str], int]:
    with Checkpoint(path, owner=OWNER) as checkpoint:
        return [piece for piece in PIECES if checkpoint.holds(piece)], checkpoint.acknowledged


def test_the_next_call_holds_recorded_pieces(tmp_path: Path) -> None:
    note(tmp_path / "c", *PIECES[:2])
    note(tmp_path / "c", PIECES[3])
    assert held(tmp_path / "c") == ([PIECES[0], PIECES[1], PIECES[3]], 30)


def test_a_truncated_file_keeps_complete_lines_and_resumes(tmp_path: Path) -> None:
    note(tmp_path / "whole", *PIECES[:2])
    content = (tmp_path / "whole").read_bytes()
    for cut in range(len(content) + 1):
        path = tmp_path / "cut"
        path.write_bytes(content[:cut])
        lines = content[:cut].count(b"\n")
        before = PIECES[: max(0, lines - 1)]
        assert held(path) == (before, 10 * len(before))
        note(path, PIECES[4])
        assert held(path) == ([*before, PIECES[4]], 10 * len(before) + 10)


def test_a_corrupt_line_is_ignored(tmp_path: Path) -> None:
    note(tmp_path / "c", *PIECES[:3])
    lines = (tmp_path / "c").read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * 20 + b"\n"
    (tmp_path / "c").write_bytes(b"".join(lines))
    assert held(tmp_path / "c") == ([PIECES[0], PIECES[2]], 20)


@pytest.mark.parametrize("key", ["index", "concrete", "encoder"])
def test_another_owner_is_rejected_and_the_file_kept(tmp_path: Path, key: str) -> None:
    note(tmp_path / "c", PIECES[0])
    with pytest.raises(CheckpointMismatch, match=f"belongs to another index: {key} is .* Delete it"):
        Checkpoint(tmp_path / "c", owner={**OWNER, key: "other"})
    assert held(tmp_path / "c") == ([PIECES[0]], 10)


def test_a_foreign_file_is_rejected_and_kept(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CheckpointMismatch, match="not a deepterms checkpoint"):
        Checkpoint(tmp_path / "photos.csv", owner=OWNER)
    assert (tmp_path / "photos.csv").read_text() == "a,b\n1,2\n"


def test_a_hash_covers_ids_descriptors_metadata_and_order() -> None:
    def of(ids: list[str], features: Any, metadata: Any = None) -> str:
        return hash_piece(check_batch(ids, features, metadata, encoder=dt.DeepPermutation(2, top_k=2)))

    first = of(["a", "b"], [[1, 2], [3, 4]])
    assert first == of(["a", "b"], np.asfortranarray([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32))
    others = [
        of(["b", "a"], [[1, 2], [3, 4]]),
        of(["a", "c"], [[1, 2], [3, 4]]),
        of(["a", "b"], [[1, 2], [3, 5]]),
        of(["a", "b"], [[1, 2], [3, 4]], [{}, {"year": 2018}]),
    ]
    assert len({first, *others}) == 5
