from __future__ import annotations

import numpy as np
import pytest

from deepterms.errors import InvalidInput
from deepterms.evaluation import bootstrap_mean, paired_difference


def test_an_interval_has_the_theoretical_width() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, size=400)
    interval = bootstrap_mean(values, seed=3)
    error = values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_the_seed_determines_the_interval() -> None:
    values = np.random.default_rng(2).random(30)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_equal_values_have_an_interval_of_zero_width() -> None:
    interval = bootstrap_mean([0.25] * 9)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_hard_queries_do_not_widen_a_paired_difference() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.random(50)
    better = hardness + 0.01 + rng.normal(0, 0.005, 50)
    difference = paired_difference(better, hardness)
    assert difference.excludes_zero
    assert difference.low > 0
    alone = bootstrap_mean(better)
    assert difference.high - difference.low < (alone.high - alone.low) / 10
    assert not paired_difference(hardness, hardness).excludes_zero


def test_unpaired_or_missing_values_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="one number per query"):
        bootstrap_mean([])
    with pytest.raises(InvalidInput, match="cannot pair"):
        paired_difference([1.0], [1.0, 2.0])
