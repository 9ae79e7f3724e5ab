"""Pivots and their reach: how near descriptors lie, and which descriptors count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.pivots.pivots import FAR_QUANTILE, measure_nearest_cosines, measure_reach


def test_measures_the_cosine_with_the_nearest_pivot(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 5)).astype(np.float32)
    for pivots in (dt.Pivots(rng.standard_normal((17, 5))), dt.Pivots(7 * rng.standard_normal((17, 5)), metric="l2")):
        units = [
            array / np.linalg.norm(array, axis=1, keepdims=True) for array in (rows, pivots.features.astype(float))
        ]
        expected = (units[0] @ units[1].T).max(axis=1)
        assert measure_nearest_cosines(rows, pivots) == pytest.approx(expected, abs=1e-5)
        monkeypatch.setattr("deepterms.encoders.pivots.pivots.PIVOTS_AT_ONCE", 4)
        assert measure_nearest_cosines(rows, pivots) == pytest.approx(expected, abs=1e-5)
        reach = measure_reach(rows, pivots)
        assert reach is not None
        assert (reach.low, reach.middle) == pytest.approx(np.quantile(expected, [FAR_QUANTILE, 0.5]), abs=1e-5)
        assert reach.rows == 30


def test_reach_ignores_pivots_themselves() -> None:
    rows = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    reach = measure_reach(rows, dt.Pivots(rows[:20]))
    assert reach is not None
    assert reach.rows == 10
    assert measure_reach(rows, dt.Pivots(rows)) is None
    assert measure_reach(rows[:0], dt.Pivots(rows)) is None


def test_zero_pivots_have_no_direction() -> None:
    assert measure_nearest_cosines(
        np.ones((2, 3), dtype=np.float32), dt.Pivots(np.zeros((1, 3)), metric="l2")
    ).tolist() == [
        -1,
        -1,
    ]


@pytest.mark.parametrize("method", ["mixtures", "rows", "farthest"])
def test_sampled_pivots_have_a_reach(method: Any) -> None:
    """One in twenty of the collection's own descriptors lies beyond it, and nearly all of another collection's."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, 24))
    here = (centres[rng.integers(0, 20, 3_000)] + 0.4 * rng.standard_normal((3_000, 24))).astype(np.float32)
    there = (centres[rng.integers(20, 40, 3_000)] + 0.4 * rng.standard_normal((3_000, 24))).astype(np.float32)
    pivots = dt.sample_pivots(here, 200, method=method)
    assert pivots.reach is not None
    assert 0.02 < (measure_nearest_cosines(here, pivots) < pivots.reach.low).mean() < 0.09
    assert (measure_nearest_cosines(there, pivots) < pivots.reach.low).mean() > 0.9
    assert dt.Pivots(pivots.features) == pivots  # the reach is not part of their identity
