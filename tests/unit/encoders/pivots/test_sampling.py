"""Sampling: what each method takes, that it is reproducible, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots import sampling
from deepterms.encoders.pivots.pivots import FAR_QUANTILE, Metric, measure_nearest_cosines
from deepterms.encoders.pivots.sampling import SamplingMethod
from deepterms.errors import InvalidInput

METHODS = get_args(SamplingMethod)


def descriptors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_pivots(method: SamplingMethod, metric: Metric) -> None:
    rows = descriptors(300)
    pivots = dt.sample_pivots(rows, 20, method=method, metric=metric, seed=3)
    assert (len(pivots), pivots.dimensions, pivots.metric) == (20, 6, metric)
    assert pivots == dt.sample_pivots(rows, 20, method=method, metric=metric, seed=3)
    assert pivots != dt.sample_pivots(rows, 20, method=method, metric=metric, seed=4)
    assert len(np.unique(pivots.features, axis=0)) == 20


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("method", ["rows", "farthest"])
def test_rows_are_of_the_collection(method: SamplingMethod, metric: Metric) -> None:
    rows = descriptors(60)
    pivots = dt.sample_pivots(rows, 60, method=method, metric=metric)
    everything = dt.Pivots(rows, metric=metric)
    assert {row.tobytes() for row in pivots.features} == {row.tobytes() for row in everything.features}


def test_mixtures_are_means_of_two_rows() -> None:
    rows = np.eye(6, dtype=np.float32) * 3
    lengths = dt.sample_pivots(rows, 400, metric="l2").features
    assert set(map(tuple, np.sort(lengths, axis=1))) == {(0, 0, 0, 0, 1.5, 1.5)}
    assert len(np.unique(lengths, axis=0)) == 15  # all pairs of different rows
    assert (np.abs(np.linalg.norm(dt.sample_pivots(rows, 50).features.astype("f8"), axis=1) - 1) < 1e-3).all()


def test_long_rows_weigh_no_more_for_the_cosine() -> None:
    rows = np.array([[1000, 0], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(dt.sample_pivots(rows, 3).features, np.sqrt(0.5), atol=1e-3)


def test_opposite_rows_have_no_middle() -> None:
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    pivots = dt.sample_pivots(rows, 20).features
    assert set(map(tuple, pivots)) == {(1, 0), (-1, 0)}
    assert (dt.sample_pivots(rows, 2, metric="l2").features == 0).all()


def test_the_farthest_come_first() -> None:
    """Three far groups: three pivots are one of each."""
    rng = np.random.default_rng(1)
    rows = np.concatenate([np.eye(6)[group] + rng.standard_normal((7, 6)) / 50 for group in (0, 2, 5)])
    pivots = dt.sample_pivots(rows, 3, method="farthest")
    assert sorted(np.argmax(pivots.features, axis=1).tolist()) == [0, 2, 5]


def test_centroids_are_the_middles_of_groups() -> None:
    rng = np.random.default_rng(2)
    rows = np.concatenate([np.eye(6)[group] * 9 + rng.standard_normal((50, 6)) / 50 for group in (1, 4)])
    pivots = dt.sample_pivots(rows, 2, method="kmeans", metric="l2").features
    np.testing.assert_allclose(pivots[np.argsort(pivots[:, 4])], np.eye(6)[[1, 4]] * 9, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_only_sampled_rows_of_a_memory_map_are_read(method: SamplingMethod, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", descriptors(2_000))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert dt.sample_pivots(mapped, 4, method=method) == dt.sample_pivots(np.array(mapped), 4, method=method)

    class Counted(np.ndarray):
        read = 0

        def __getitem__(self, rows: Any) -> Any:
            Counted.read += len(rows)
            return np.asarray(super().__getitem__(rows))

    dt.sample_pivots(mapped.view(Counted), 4, method=method)
    assert Counted.read <= 4 * 64 + sampling.MAX_REACH_ROWS


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dt.sample_pivots(descriptors(50), 40)
    monkeypatch.setattr(sampling, "MIXTURES_AT_ONCE", 7)
    assert dt.sample_pivots(descriptors(50), 40) == whole


def test_half_precision_and_whole_numbers_are_features_too() -> None:
    rows = descriptors(30)
    assert dt.sample_pivots(rows.astype(np.float16), 5, method="rows").dimensions == 6
    assert dt.sample_pivots(np.arange(1, 61).reshape(10, 6), 5, method="rows").dimensions == 6


@pytest.mark.parametrize(
    ("rows", "count", "method", "message"),
    [
        (
            descriptors(10),
            11,
            "rows",
            "11 pivots by method 'rows' need at least 11 features; got 10.*method='mixtures'",
        ),
        (descriptors(10), 11, "farthest", "need at least 11 features"),
        (descriptors(10), 11, "kmeans", "need at least 11 features"),
        (descriptors(1), 3, "mixtures", "need at least 2 features"),
        (descriptors(3), 0, "rows", "count is 0"),
        (descriptors(3), 2, "grid", "method is 'grid'; expected one of auto, mixtures, rows, farthest, kmeans"),
        (descriptors(3)[0], 2, "rows", r"shape \(6,\)"),
        (np.full((4, 6), np.nan), 2, "rows", "NaN"),
        (np.zeros((4, 6)), 2, "mixtures", "all zero"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    rows: NDArray[np.float32], count: int, method: SamplingMethod, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        dt.sample_pivots(rows, count, method=method)


def test_auto_takes_centroids_where_there_are_rows_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(rows: NDArray[np.float32], count: int) -> list[str]:
        auto = dt.sample_pivots(rows, count, method="auto")
        return [method for method in METHODS if dt.sample_pivots(rows, count, method=method) == auto]

    assert same(descriptors(40), 20) == ["kmeans"]
    assert same(descriptors(39), 20) == ["mixtures"]
    monkeypatch.setattr(sampling, "MAX_CENTROIDS", 19)
    assert same(descriptors(40), 20) == ["mixtures"]


def test_the_reach_of_centroids_is_of_rows_that_they_have_not_learnt_from() -> None:
    """Else most documents that come later would count as far: a centroid lies nearest to its own few rows."""
    rows = np.random.default_rng(8).standard_normal((6_000, 40)).astype(np.float32)
    pivots = dt.sample_pivots(rows[:2_000], 500, method="kmeans")
    assert pivots.reach is not None
    assert pivots.reach.rows == 200  # a tenth
    later = measure_nearest_cosines(rows[2_000:], pivots)
    assert np.mean(later < pivots.reach.low) == pytest.approx(FAR_QUANTILE, abs=0.03)
    assert np.mean(measure_nearest_cosines(rows[:2_000], pivots) < pivots.reach.low) < FAR_QUANTILE / 2
    # With no rows to spare there is nothing to tell it by.
    assert dt.sample_pivots(rows[:50], 50, method="kmeans").reach is None
