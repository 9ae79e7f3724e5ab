"""Nearest pivots: exact and projected search against the definition, block by block, on several threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots import grid, nearest, products
from deepterms.encoders.pivots.nearest import NearestPivots, Search
from deepterms.encoders.pivots.pivots import Metric
from deepterms.encoders.pivots.projection import PivotProjection
from tests.unit.encoders.pivots.definition import rank_by_definition

small = st.integers(-4, 4).map(float)


@given(
    pivots=arrays(np.float16, st.tuples(st.integers(1, 12), st.just(5)), elements=small),
    features=arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=small),
    metric=st.sampled_from(["cosine", "l2"]),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_matches_the_definition(
    pivots: NDArray[np.float16], features: NDArray[np.float32], metric: Metric, data: st.DataObject
) -> None:
    features[~features.any(axis=1), 0] = 1
    if metric == "cosine":
        pivots[~pivots.any(axis=1), 0] = 1
    given_ = dt.Pivots(pivots, metric=metric)
    count = data.draw(st.integers(1, len(pivots)))
    numbers, nearness = NearestPivots(given_).find(features, count)
    assert (np.diff(nearness, axis=1) <= 0).all()
    if metric == "l2":
        assert numbers.tolist() == [rank_by_definition(given_, row, count) for row in features]
    else:  # equal cosines of pivots of different lengths may differ in the last of 53 bits
        for row, found in zip(features, numbers, strict=True):
            exact = rank_by_definition(given_, row, count)
            np.testing.assert_allclose(cosines(given_, row)[found], cosines(given_, row)[exact], atol=1e-14)


def cosines(pivots: dt.Pivots, feature: NDArray[np.float32]) -> NDArray[np.float64]:
    p = pivots.features.astype(np.float64)
    found: NDArray[np.float64] = p @ feature / np.linalg.norm(p, axis=1)
    return found


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_estimates_rule_out_no_nearest_pivot(metric: Metric) -> None:
    """Exact sums distinguish pivots that float32 cannot."""
    rng = np.random.default_rng(3)
    base = rng.standard_normal(96)
    near = (base + rng.standard_normal((400, 96)) * 2e-3).astype(np.float16)
    features = (base + rng.standard_normal((20, 96)) * 1e-3).astype(np.float32)
    pivots = dt.Pivots(near, metric=metric)
    numbers, _ = NearestPivots(pivots).find(features, 7)
    exact = near.astype(np.longdouble)
    for row, found in zip(features.astype(np.longdouble), numbers, strict=True):
        measure = exact @ row / np.sqrt((exact**2).sum(axis=1))
        if metric == "l2":
            measure = -((exact - row) ** 2).sum(axis=1)
        assert found.tolist() == np.argsort(-measure, kind="stable")[:7].tolist()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_block_size_does_not_matter(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    pivots = dt.Pivots(rng.standard_normal((300, 24)), metric=metric)
    features = rng.standard_normal((50, 24)).astype(np.float32)
    numbers, nearness = NearestPivots(pivots).find(features, 20)
    one_by_one = [NearestPivots(pivots).find(features[row : row + 1], 20) for row in range(50)]
    monkeypatch.setattr(nearest, "BLOCK_BYTES", 4 * 300 * 3)
    monkeypatch.setattr(grid, "BLOCK_BYTES", 8 * 24 * 7)
    monkeypatch.setattr(products, "BLOCK_BYTES", 8 * 24 * 7)
    for found, near in (
        NearestPivots(pivots).find(features, 20),
        map(np.concatenate, zip(*one_by_one, strict=True)),
    ):
        np.testing.assert_array_equal(found, numbers)
        np.testing.assert_array_equal(near, nearness)


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Generate clustered descriptors, float32 (count, 40)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(8).standard_normal((60, 40))
    rows: NDArray[np.float32] = (centres[rng.integers(0, 60, count)] + rng.standard_normal((count, 40)) / 2).astype(
        "f4"
    )
    return rows


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_projected_search_finds_most_of_the_nearest(metric: Metric) -> None:
    pivots, features = dt.Pivots(clustered(3_000, 1), metric=metric), clustered(700, 2)
    exact, some = (NearestPivots(pivots, kind) for kind in get_args(Search))
    (numbers, nearness), (found, near) = (index.find(features, 8) for index in (exact, some))
    assert agreement(numbers, found) > 0.98
    same = numbers == found
    np.testing.assert_array_equal(nearness[same], near[same])  # found pivots are compared exactly
    again, _ = NearestPivots(pivots, "projected").find(features, 8)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_array_equal(found[5], some.find(features[5:6], 8)[0][0])


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_projected_search_in_many_dimensions(metric: Metric, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More dimensions than components: descriptors in batches and one by one, with and without faiss."""
    if not installed:
        monkeypatch.setitem(sys.modules, "faiss", None)
    rng = np.random.default_rng(11)
    directions = np.linalg.qr(rng.standard_normal((500, 500)))[0] / np.arange(1, 501)[:, np.newaxis]
    pivots = dt.Pivots((rng.standard_normal((2_000, 500)) @ directions).astype("f4"), metric=metric)
    features = (rng.standard_normal((40, 500)) @ directions).astype("f4")
    exact, projected = NearestPivots(pivots), NearestPivots(pivots, "projected")
    numbers, _ = exact.find(features, 8)
    assert agreement(numbers, projected.find(features, 8)[0]) > 0.98
    alone = np.concatenate([projected.find(features[row : row + 1], 8)[0] for row in range(len(features))])
    assert agreement(numbers, alone) > 0.98


def agreement(numbers: NDArray[np.int32], found: NDArray[np.int32]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(numbers, found, strict=True)]))


def test_projected_search_finds_all_duplicate_pivots() -> None:
    """No duplicate is lost, although their codes are equal."""
    pivots = dt.Pivots(np.eye(2)[np.arange(900) % 9 // 8])  # 100 of one kind, fewer than requested
    features = np.array([[1, 0.5], [0.5, 1], [-1, 0.5]], dtype="f4")
    expected, near = NearestPivots(pivots).find(features, 200)
    numbers, nearness = NearestPivots(pivots, "projected").find(features, 200)
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(nearness, near)


def test_too_few_candidates_fall_back_to_all_pivots(monkeypatch: pytest.MonkeyPatch) -> None:
    pivots, features = dt.Pivots(clustered(500, 9)), clustered(30, 10)
    whole = PivotProjection.find_candidates

    def drop_candidates(self: PivotProjection, some: grid.GridFeatures, count: int) -> NDArray[np.int64]:
        candidates = whole(self, some, count)
        candidates[::2, : len(candidates[0]) - count + 1] = -1  # every other descriptor gets one too few
        return candidates

    expected, near = NearestPivots(pivots).find(features, 8)
    monkeypatch.setattr(PivotProjection, "find_candidates", drop_candidates)
    numbers, nearness = NearestPivots(pivots, "projected").find(features, 8)
    np.testing.assert_array_equal(numbers[::2], expected[::2])
    np.testing.assert_array_equal(nearness[::2], near[::2])
    assert agreement(numbers[1::2], expected[1::2]) > 0.98


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_estimates_stay_within_their_error_bound(
    metric: Metric, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "faiss", None)
    pivots, rng = dt.Pivots(clustered(300, 12), metric=metric), np.random.default_rng(13)
    placed = grid.PivotGrid(pivots)
    features = placed.round(clustered(20, 14))
    candidates = np.sort(rng.permuted(np.tile(np.arange(300), (20, 1)), axis=1)[:, :50], axis=1)
    look = placed.estimate(features, candidates)
    assert (
        np.abs(look - np.take_along_axis(placed.estimate(features), candidates, axis=1)).max() <= 2 * placed.max_error
    )
    candidates[3, :7] = -1
    again = placed.estimate(features, candidates)
    assert np.isneginf(again[3, :7]).all()
    np.testing.assert_array_equal(again[3, 7:], look[3, 7:])


def test_projected_search_compares_few_pivots_in_full() -> None:
    pivots = dt.Pivots(clustered(70, 3), metric="l2")
    features = clustered(20, 4)
    numbers, nearness = NearestPivots(pivots, "projected").find(features, 70)
    expected, near = NearestPivots(pivots).find(features, 70)
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(nearness, near)


def test_threads_share_one_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = PivotProjection

    def counted(grid: grid.PivotGrid) -> PivotProjection:
        made.append(grid)
        return real(grid)

    monkeypatch.setattr(nearest, "PivotProjection", counted)
    encoder = dt.PivotPermutation(dt.Pivots(clustered(500, 5)), search="projected")
    features = clustered(600, 6)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: encoder.encode(features).to_terms(), range(4)))
    assert len(made) == 1
    assert answers[1:] == answers[:1] * 3


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_descriptors_of_any_scale(scale: float) -> None:
    feature = np.array([[1, 2]], dtype=np.float32) * np.float32(scale)
    cosine = dt.Pivots(np.array([[60000, 0], [0, 6e-8], [-60000, 1]], dtype=np.float16))
    assert NearestPivots(cosine).find(feature, 3)[0].tolist() == [[1, 0, 2]]
    lengths = dt.Pivots([[60000, 0], [0, 1], [-60000, 1], [60000, 60000]], metric="l2")
    numbers, nearness = NearestPivots(lengths).find(feature, 4)
    assert np.isfinite(nearness).all()
    assert numbers.tolist() == [[3, 0, 1, 2] if scale == 1e38 else [1, 0, 2, 3]]
