from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deepterms.errors import InvalidInput
from deepterms.permutations import inverted_permutations, permutations, spearman_rho


def test_the_papers_example() -> None:
    feature = [0.1, 0.3, 0.4, 0, 0.2]
    assert permutations(feature).tolist() == [3, 2, 5, 1, 4]
    assert inverted_permutations(feature).tolist() == [4, 2, 1, 5, 3]


def test_truncation_puts_the_rest_at_k_plus_one() -> None:
    assert inverted_permutations([0.1, 0.3, 0.4, 0, 0.2], top_k=2).tolist() == [3, 2, 1, 3, 3]


def test_ties_go_to_the_lower_component() -> None:
    assert permutations([[1, 2, 2, 1]]).tolist() == [[2, 3, 1, 4]]


def test_rho_is_the_distance_behind_scipys_correlation() -> None:
    rng = np.random.default_rng(3)
    a, b = (inverted_permutations(rng.standard_normal(50)) for _ in range(2))
    n = 50
    correlation = 1 - 6 * float(spearman_rho(a, b)) ** 2 / (n * (n**2 - 1))
    assert correlation == pytest.approx(stats.spearmanr(a, b).statistic)


def test_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput):
        spearman_rho([1, 2], [1, 2, 3])
