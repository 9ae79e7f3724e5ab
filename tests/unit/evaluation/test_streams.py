from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from deepterms.errors import InvalidInput
from deepterms.evaluation import ArrayFeatures, MixedFeatures, StoredFeatures, sample_rows
from deepterms.features import read_npy


def _rows(count: int, dimensions: int = 8) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32)


def test_blocks_cover_every_row_once_and_are_normalised() -> None:
    stream = ArrayFeatures(_rows(9_001))
    blocks = list(stream.blocks())
    assert max(map(len, blocks)) <= 4_096
    rows = np.concatenate(blocks)
    assert len(rows) == len(stream) == 9_001
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


def test_rows_are_read_by_position() -> None:
    rows = _rows(9)
    expected = np.concatenate(list(ArrayFeatures(rows).blocks()))
    containers: list[Any] = [pd.DataFrame(rows, index=np.arange(9.0)[::-1]), torch.tensor(rows, requires_grad=True)]
    for given in containers:
        stream = ArrayFeatures(given)
        assert (len(stream), stream.dimensions) == (9, 8)
        np.testing.assert_array_equal(np.concatenate(list(stream.blocks())), expected)
    with pytest.raises(InvalidInput, match="masked array"):
        ArrayFeatures(np.ma.masked_greater(rows, 0))


def test_a_store_streams_like_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", _rows(50))
    (tmp_path / "ids.txt").write_text("".join(f"{number}\n" for number in range(50)))
    stream = StoredFeatures(read_npy(tmp_path / "features.npy", tmp_path / "ids.txt"))
    assert (len(stream), stream.dimensions) == (50, 8)
    np.testing.assert_array_equal(
        np.concatenate(list(stream.blocks())), np.concatenate(list(ArrayFeatures(_rows(50)).blocks()))
    )


def test_mixtures_are_reproducible_and_share_a_prefix() -> None:
    base = _rows(20)
    few, many = MixedFeatures(base, 5_000), MixedFeatures(base, 9_000)
    rows = np.concatenate(list(many.blocks()))
    assert rows.shape == (9_000, 8)
    np.testing.assert_array_equal(np.concatenate(list(few.blocks())), rows[:5_000])
    assert not np.array_equal(next(MixedFeatures(base, 10, seed=1).blocks()), rows[:10])


def test_a_sample_covers_all_streams() -> None:
    one, other = ArrayFeatures(np.full((30, 2), 1, np.float32)), ArrayFeatures(np.eye(2, dtype=np.float32))
    assert len(sample_rows((one, other), 10, seed=1)) == 10
    np.testing.assert_array_equal(sample_rows((one, other), 99)[-2:], np.eye(2))
    with pytest.raises(InvalidInput, match="no descriptors"):
        sample_rows((), 3)


def test_an_all_zero_distractor_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="all zero"):
        list(ArrayFeatures(np.zeros((2, 3), np.float32)).blocks())
