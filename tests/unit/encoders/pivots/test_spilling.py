"""Spilling: the pivots of documents against the definition of SOAR, pivot by pivot, for any input and block size."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots import grid, nearest, products, spilling
from deepterms.encoders.pivots.nearest import NearestPivots
from deepterms.encoders.pivots.permutation import Spill
from deepterms.encoders.pivots.pivots import Metric
from tests.unit.encoders.pivots.definition import compute_losses

small = st.integers(-4, 4).map(float)
METRICS: list[Metric] = ["cosine", "l2"]


def check(pivots: dt.Pivots, features: NDArray[np.float32], count: int, spilled: NDArray[np.int32]) -> None:
    """Check each choice, given the ones before: the smallest loss, and of equal pivots the lowest number."""
    ranked, _ = NearestPivots(pivots).find(features, min(len(pivots), 32))
    for feature, candidates, chosen in zip(features, ranked, spilled, strict=True):
        assert chosen[0] == candidates[0]
        assert len(set(chosen.tolist())) == count
        for place in range(1, count):
            taken = chosen[:place].tolist()
            losses = compute_losses(pivots, feature, taken)
            left = [int(number) for number in candidates if number not in taken]
            smallest, own = min(losses[left]), losses[chosen[place]]
            assert chosen[place] in left
            assert own <= smallest + 1e-9 * (1 + abs(smallest))
            same = [n for n in left if (pivots.features[n] == pivots.features[chosen[place]]).all()]
            assert chosen[place] == min(same)


@given(
    pivots=arrays(np.float16, st.tuples(st.integers(2, 45), st.integers(1, 5)), elements=small),
    rows=st.integers(1, 4),
    metric=st.sampled_from(METRICS),
    data=st.data(),
)
@settings(max_examples=120, deadline=None)
def test_matches_the_definition(pivots: NDArray[np.float16], rows: int, metric: Metric, data: st.DataObject) -> None:
    """Small whole numbers: many pivots are equal to each other, to the descriptor, or equally far from it."""
    features = data.draw(arrays(np.float32, (rows, pivots.shape[1]), elements=small))
    features[~features.any(axis=1), 0] = 1
    if metric == "cosine":
        pivots[~pivots.any(axis=1), 0] = 1
    given_ = dt.Pivots(pivots, metric=metric)
    count = data.draw(st.integers(1, min(31, len(pivots) - 1)))
    check(given_, features, count, NearestPivots(given_).spill(features, count))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "spread", [1.0, 2e-3]
)  # 2e-3: so near each other that float32 does not tell their losses apart
@pytest.mark.parametrize(("count", "dimensions"), [(2, 3), (4, 24), (8, 96), (31, 96)])
def test_matches_the_definition_on_real_numbers(metric: Metric, spread: float, count: int, dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    base = rng.standard_normal(dimensions) * 2
    near = (base + rng.standard_normal((150, dimensions)) * spread).astype(np.float16)
    features = (base + rng.standard_normal((20, dimensions)) * spread / 2).astype(np.float32)
    pivots = dt.Pivots(near, metric=metric)
    check(pivots, features, count, NearestPivots(pivots).spill(features, count))


def test_a_parallel_residual_is_passed_over() -> None:
    """Squared distances 1, 4 and 6.25: the second pivot lies beyond the first, so its loss is 4 + 4."""
    pivots = dt.Pivots([[11.0, 0.0], [12.0, 0.0], [10.0, 2.5]], metric="l2")
    near, soar = (dt.PivotPermutation(pivots, top_k=2, query_top_k=3, spill=kind) for kind in get_args(Spill))
    assert near.encode([10, 0]).to_terms() == [{"t0": 1, "t1": 1}]
    assert soar.encode([10, 0]).to_terms() == [{"t0": 1, "t2": 1}]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1.0, 1 / 3])
def test_a_document_that_equals_a_pivot_has_no_penalty_from_it(metric: Metric, scale: float) -> None:
    """Not even if its float32 numbers are rounded: the direction of what is left is noise."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 16)).astype(np.float16) / np.float16(4)
    if metric == "l2":
        scale = 1.0
    pivots = dt.Pivots(rows, metric=metric)
    features = pivots.features.astype(np.float32) * np.float32(scale)
    found, _ = NearestPivots(pivots).find(features, 2)
    np.testing.assert_array_equal(found[:, 0], np.arange(40))
    np.testing.assert_array_equal(NearestPivots(pivots).spill(features, 2), found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("total", "count"), [(1, 1), (2, 2), (31, 31), (32, 32), (60, 32), (60, 40), (60, 60), (60, 1)]
)
def test_with_all_candidates_or_one_the_pivots_are_the_nearest(metric: Metric, total: int, count: int) -> None:
    rng = np.random.default_rng(5)
    pivots = dt.Pivots(rng.standard_normal((total, 8)), metric=metric)
    features = rng.standard_normal((9, 8)).astype(np.float32)
    kinds = [dt.PivotPermutation(pivots, top_k=count, query_top_k=1, spill=kind) for kind in get_args(Spill)]
    assert kinds[0].encode(features).to_terms() == kinds[1].encode(features).to_terms()


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Generate clustered descriptors, float32 (count, 40)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(8).standard_normal((60, 40))
    rows: NDArray[np.float32] = (centres[rng.integers(0, 60, count)] + rng.standard_normal((count, 40)) / 2).astype(
        "f4"
    )
    return rows


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_block_size_does_not_matter(metric: Metric, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "faiss", None)
    pivots, features = dt.Pivots(clustered(300, 1), metric=metric), clustered(50, 2)
    whole = NearestPivots(pivots).spill(features, 6)
    monkeypatch.setattr(nearest, "SPILLED_ROWS", 7)
    monkeypatch.setattr(grid, "BLOCK_BYTES", 8 * 40 * 7)
    monkeypatch.setattr(products, "BLOCK_BYTES", 8 * 40 * 7)
    np.testing.assert_array_equal(NearestPivots(pivots).spill(features, 6), whole)
    for row in range(0, 50, 7):
        np.testing.assert_array_equal(NearestPivots(pivots).spill(features[row : row + 1], 6), whole[row : row + 1])
    assert NearestPivots(pivots).spill(features[:0], 6).shape == (0, 6)


@pytest.mark.parametrize("metric", METRICS)
def test_projected_search_chooses_most_of_the_same_pivots(metric: Metric) -> None:
    pivots, features = dt.Pivots(clustered(3_000, 1), metric=metric), clustered(700, 2)
    exact, projected = (NearestPivots(pivots, kind).spill(features, 4) for kind in ("exact", "projected"))
    shared = [len(np.intersect1d(a, b)) / 4 for a, b in zip(exact, projected, strict=True)]
    assert np.mean(shared) > 0.97
    alone = NearestPivots(pivots, "projected").spill(features[9:10], 4)
    np.testing.assert_array_equal(alone, projected[9:10])


def test_projected_search_falls_back_to_all_pivots_where_codes_are_equal() -> None:
    pivots = dt.Pivots(np.eye(2)[np.arange(900) % 90 // 89])  # 10 of one kind, fewer than the candidates
    features = np.array([[1, 0.5], [0.5, 1], [-1, 0.5]], dtype="f4")
    expected = NearestPivots(pivots).spill(features, 4)
    np.testing.assert_array_equal(NearestPivots(pivots, "projected").spill(features, 4), expected)


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
@pytest.mark.parametrize("metric", METRICS)
def test_descriptors_of_any_scale(metric: Metric, scale: float) -> None:
    """Of descriptors that dwarf the pivots, all residuals are parallel: any pivots will do, but always the same."""
    rng = np.random.default_rng(6)
    pivots = dt.Pivots(rng.standard_normal((50, 6)), metric=metric)
    features = rng.uniform(1, 3, (20, 6)).astype(np.float32) * np.float32(scale)
    spilled = NearestPivots(pivots).spill(features, 4)
    assert {len(set(row)) for row in spilled.tolist()} == {4}
    if metric == "cosine":
        unit = features / np.float32(scale)
        np.testing.assert_array_equal(NearestPivots(pivots).spill(unit, 4), spilled)
    np.testing.assert_array_equal(NearestPivots(pivots).spill(features[::-1].copy(), 4)[::-1], spilled)


def test_few_losses_are_computed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimates decide most choices: otherwise documents would be encoded several times as slowly."""
    computed = []
    compute = spilling._Losses._compute

    def counted(self: spilling._Losses, rows: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        computed.append(len(rows))
        return compute(self, rows, candidates)

    monkeypatch.setattr(spilling._Losses, "_compute", counted)
    NearestPivots(dt.Pivots(clustered(1_000, 1))).spill(clustered(500, 2), 4)
    assert sum(computed) < 0.1 * 3 * 500
