"""Pivots moved into the middle of the rows that are nearest to them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots.nearest import NearestPivots
from deepterms.encoders.pivots.pivots import Metric
from deepterms.encoders.pivots.sampling import move_to_centroids


def rows_of(count: int, metric: Metric) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((12, 8))[rng.integers(0, 12, count)] + rng.standard_normal((count, 8)) / 4).astype("f4")
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_one_iteration_is_the_mean_of_the_nearest_rows() -> None:
    rows = np.array([[0, 0], [0, 2], [10, 0], [12, 2]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1, 0], [9, 0]], metric="l2"), rows, iterations=1)
    assert moved.metric == "l2"
    assert moved.features.tolist() == [[0, 1], [11, 1]]


def test_middles_of_cosine_are_directions() -> None:
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1.0, 1.0, 0.0], [0.0, 0.1, 1.0]]), rows, iterations=1)
    np.testing.assert_allclose(moved.features, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_pivot_that_is_nearest_to_none_stays(metric: Metric) -> None:
    rows = np.array([[1, 0], [0.96, 0.28]], dtype=np.float32)
    moved = move_to_centroids(dt.Pivots([[1.0, 0.5], [-1.0, 0.0]], metric=metric), rows, iterations=2)
    assert moved.features[1].tolist() == [-1, 0]
    assert moved.features[0].tolist() != [1, 0.5]


def test_a_pivot_whose_rows_have_no_direction_together_stays() -> None:
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert move_to_centroids(dt.Pivots([[0, 1]]), rows, iterations=1).features.tolist() == [[0, 1]]
    assert move_to_centroids(dt.Pivots([[0, 1]], metric="l2"), rows, iterations=1).features.tolist() == [[0, 0]]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("count", [30, 1_100])  # compared with all, and in few dimensions first
def test_each_iteration_brings_pivots_nearer_to_rows(metric: Metric, count: int) -> None:
    rows = rows_of(4_000, metric)
    pivots = dt.Pivots(rows[:count], metric=metric)
    near = [float(NearestPivots(pivots).find(rows, 1)[1].mean())]
    for _ in range(3):
        pivots = move_to_centroids(pivots, rows, iterations=1)
        near.append(float(NearestPivots(pivots).find(rows, 1)[1].mean()))
    assert near == sorted(near)
    assert near[0] < near[1]
    assert pivots == move_to_centroids(dt.Pivots(rows[:count], metric=metric), rows, iterations=3)
