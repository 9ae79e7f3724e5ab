"""Sampling: what each method picks, that it is reproducible, what it rejects, and how pivots move to centroids."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots import sampling
from deepterms.encoders.pivots.nearest import NearestPivots
from deepterms.encoders.pivots.pivots import FAR_QUANTILE, Metric, measure_nearest_cosines
from deepterms.encoders.pivots.sampling import SamplingMethod, move_to_centroids
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
def test_rows_come_from_the_collection(method: SamplingMethod, metric: Metric) -> None:
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


def test_cosine_mixtures_ignore_row_lengths() -> None:
    rows = np.array([[1000, 0], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(dt.sample_pivots(rows, 3).features, np.sqrt(0.5), atol=1e-3)


def test_opposite_rows_are_not_averaged_for_cosine() -> None:
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    pivots = dt.sample_pivots(rows, 20).features
    assert set(map(tuple, pivots)) == {(1, 0), (-1, 0)}
    assert (dt.sample_pivots(rows, 2, metric="l2").features == 0).all()


def test_farthest_picks_one_pivot_per_distant_group() -> None:
    """Three pivots for three distant groups are one of each."""
    rng = np.random.default_rng(1)
    rows = np.concatenate([np.eye(6)[group] + rng.standard_normal((7, 6)) / 50 for group in (0, 2, 5)])
    pivots = dt.sample_pivots(rows, 3, method="farthest")
    assert sorted(np.argmax(pivots.features, axis=1).tolist()) == [0, 2, 5]


def test_kmeans_finds_the_centres_of_groups() -> None:
    rng = np.random.default_rng(2)
    rows = np.concatenate([np.eye(6)[group] * 9 + rng.standard_normal((50, 6)) / 50 for group in (1, 4)])
    pivots = dt.sample_pivots(rows, 2, method="kmeans", metric="l2").features
    np.testing.assert_allclose(pivots[np.argsort(pivots[:, 4])], np.eye(6)[[1, 4]] * 9, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_reads_only_sampled_rows_of_a_memory_map(method: SamplingMethod, tmp_path: Path) -> None:
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


def test_piece_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dt.sample_pivots(descriptors(50), 40)
    monkeypatch.setattr(sampling, "MIXTURES_AT_ONCE", 7)
    assert dt.sample_pivots(descriptors(50), 40) == whole


def test_accepts_float16_and_integers() -> None:
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
def test_invalid_sampling_is_rejected(
    rows: NDArray[np.float32], count: int, method: SamplingMethod, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        dt.sample_pivots(rows, count, method=method)


def test_auto_uses_kmeans_if_there_are_enough_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(rows: NDArray[np.float32], count: int) -> list[str]:
        auto = dt.sample_pivots(rows, count, method="auto")
        return [method for method in METHODS if dt.sample_pivots(rows, count, method=method) == auto]

    assert same(descriptors(40), 20) == ["kmeans"]
    assert same(descriptors(39), 20) == ["mixtures"]
    monkeypatch.setattr(sampling, "MAX_CENTROIDS", 19)
    assert same(descriptors(40), 20) == ["mixtures"]


def test_reach_of_centroids_uses_held_out_rows() -> None:
    """Centroids lie nearest to their own training rows; measured on those, most new documents would be far."""
    rows = np.random.default_rng(8).standard_normal((6_000, 40)).astype(np.float32)
    pivots = dt.sample_pivots(rows[:2_000], 500, method="kmeans")
    assert pivots.reach is not None
    assert pivots.reach.rows == 200  # a tenth
    later = measure_nearest_cosines(rows[2_000:], pivots)
    assert np.mean(later < pivots.reach.low) == pytest.approx(FAR_QUANTILE, abs=0.03)
    assert np.mean(measure_nearest_cosines(rows[:2_000], pivots) < pivots.reach.low) < FAR_QUANTILE / 2
    # Without rows to hold out, the reach is unknown.
    assert dt.sample_pivots(rows[:50], 50, method="kmeans").reach is None


def clustered(count: int, metric: Metric) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((12, 8))[rng.integers(0, 12, count)] + rng.standard_normal((count, 8)) / 4).astype("f4")
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_one_iteration_moves_to_the_mean_of_nearest_rows() -> None:
    rows = np.array([[0, 0], [0, 2], [10, 0], [12, 2]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1, 0], [9, 0]], metric="l2"), rows, iterations=1)
    assert moved.metric == "l2"
    assert moved.features.tolist() == [[0, 1], [11, 1]]


def test_cosine_centroids_are_normalised() -> None:
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1.0, 1.0, 0.0], [0.0, 0.1, 1.0]]), rows, iterations=1)
    np.testing.assert_allclose(moved.features, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_pivot_without_rows_stays(metric: Metric) -> None:
    rows = np.array([[1, 0], [0.96, 0.28]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1.0, 0.5], [-1.0, 0.0]], metric=metric), rows, iterations=2)
    assert moved.features[1].tolist() == [-1, 0]
    assert moved.features[0].tolist() != [1, 0.5]


def test_a_cosine_pivot_whose_rows_sum_to_zero_stays() -> None:
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert move_to_centroids(dt.Pivots([[0, 1]]), rows, iterations=1).features.tolist() == [[0, 1]]
    assert move_to_centroids(dt.Pivots([[0, 1]], metric="l2"), rows, iterations=1).features.tolist() == [[0, 0]]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("count", [30, 1_100])  # exact and projected search
def test_each_iteration_brings_pivots_nearer_to_rows(metric: Metric, count: int) -> None:
    rows = clustered(4_000, metric)
    pivots = dt.Pivots(rows[:count], metric=metric)
    near = [float(NearestPivots(pivots).find(rows, 1)[1].mean())]
    for _ in range(3):
        pivots = move_to_centroids(pivots, rows, iterations=1)
        near.append(float(NearestPivots(pivots).find(rows, 1)[1].mean()))
    assert near == sorted(near)
    assert near[0] < near[1]
    assert pivots == move_to_centroids(dt.Pivots(rows[:count], metric=metric), rows, iterations=3)
