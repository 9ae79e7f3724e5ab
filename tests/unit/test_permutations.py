"""Distances between permutations: definitions, agreement with SciPy, metric axioms, and the theorem behind search."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy import stats

import deepterms as dt
from deepterms import permutations as module
from deepterms.errors import InvalidInput
from deepterms.permutations import (
    inverted_permutations,
    kendall_tau,
    permutations,
    spearman_footrule,
    spearman_rho,
)

Distance = Callable[[ArrayLike, ArrayLike], NDArray[np.float64]]
DISTANCES: tuple[Distance, ...] = (spearman_rho, spearman_footrule, kendall_tau)


def draw(count: int, length: int, *, seed: int, top_k: int | None = None) -> NDArray[np.int64]:
    """Draw random inverted permutations, int64 (count, length)."""
    return inverted_permutations(np.random.default_rng(seed).random((count, length)), top_k=top_k)


def kendall_by_cases(first: list[int], second: list[int], penalty: float) -> float:
    """Apply the four cases of Fagin, Kumar and Sivakumar to two lists of components, first component first."""
    total = 0.0
    for i, j in itertools.combinations(sorted({*first, *second}), 2):
        both = [[x for x in (i, j) if x in listed] for listed in (first, second)]
        if len(both[0]) == len(both[1]) == 2:
            total += (first.index(i) < first.index(j)) != (second.index(i) < second.index(j))
        elif {len(both[0]), len(both[1])} == {2, 1}:
            whole = first if len(both[0]) == 2 else second
            (alone,) = both[1] if len(both[0]) == 2 else both[0]
            other = j if alone == i else i
            total += whole.index(other) < whole.index(alone)
        elif len(both[0]) == len(both[1]) == 1:
            total += 1
        else:
            total += penalty
    return total


def test_reproduces_the_papers_example() -> None:
    feature = [0.1, 0.3, 0.4, 0, 0.2]
    assert permutations(feature).tolist() == [3, 2, 5, 1, 4]
    assert inverted_permutations(feature).tolist() == [4, 2, 1, 5, 3]


def test_truncation_puts_the_rest_at_k_plus_one() -> None:
    assert inverted_permutations([0.1, 0.3, 0.4, 0, 0.2], top_k=2).tolist() == [3, 2, 1, 3, 3]


def test_ties_go_to_the_lower_component() -> None:
    assert permutations([[1, 2, 2, 1]]).tolist() == [[2, 3, 1, 4]]


def test_small_distances_by_hand() -> None:
    one, other = [1, 2, 3, 4], [2, 1, 4, 3]
    assert float(spearman_rho(one, other)) == 2.0
    assert float(spearman_footrule(one, other)) == 4.0
    assert float(kendall_tau(one, other)) == 2.0
    # The lists (1, 2) and (3, 1): the pair (1, 3) is inverted, and each list has a different one of the pair (2, 3).
    first, second = [1, 2, 3, 3], [2, 3, 1, 3]
    assert float(spearman_rho(first, second)) == pytest.approx(np.sqrt(6))
    assert float(spearman_footrule(first, second)) == 4.0
    assert float(kendall_tau(first, second, penalty=0)) == 2.0


@pytest.mark.parametrize("length", [2, 3, 50, 257])
def test_agrees_with_scipys_correlations(length: int) -> None:
    first, second = draw(3, length, seed=3), draw(4, length, seed=4)
    n = length
    rho = 1 - 6 * spearman_rho(first, second) ** 2 / (n * (n**2 - 1))
    tau = 1 - 4 * kendall_tau(first, second) / (n * (n - 1))
    for row, column in itertools.product(range(3), range(4)):
        a, b = first[row], second[column]
        assert rho[row, column] == pytest.approx(stats.spearmanr(a, b).statistic)
        assert tau[row, column] == pytest.approx(stats.kendalltau(a, b).statistic)


@given(st.integers(1, 9), st.data())
@settings(max_examples=200, deadline=None)
def test_kendall_counts_pairs_case_by_case(length: int, data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, length)) for _ in range(2)]
    seed, penalty = data.draw(st.integers(0, 2**32)), data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    features = np.random.default_rng(seed).random((2, 3, length))
    first, second = (inverted_permutations(each, top_k=k) for each, k in zip(features, counts, strict=True))
    # K = V − 1 of V components determine the whole permutation.
    kept = [length if k >= length - 1 else k for k in counts]
    lists = [permutations(each)[:, :k].tolist() for each, k in zip(features, kept, strict=True)]
    expected = [[kendall_by_cases(a, b, penalty) for b in lists[1]] for a in lists[0]]
    np.testing.assert_allclose(kendall_tau(first, second, penalty=penalty), expected)


@pytest.mark.parametrize("distance", DISTANCES)
@given(length=st.integers(1, 12), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_satisfies_the_axioms_of_a_metric(distance: Distance, length: int, seed: int, data: st.DataObject) -> None:
    # Kendall's tau is a metric only for whole permutations.
    top_k = length if distance is kendall_tau else data.draw(st.integers(1, length))
    positions = draw(5, length, seed=seed, top_k=top_k)
    found = distance(positions, positions)
    same = (positions[:, np.newaxis] == positions).all(axis=2)
    assert ((found == 0) == same).all()
    assert (found == found.T).all()
    for middle in range(5):
        assert (found <= found[:, [middle]] + found[[middle]] + 1e-9).all()


@given(length=st.integers(2, 10), seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_kendall_is_near_a_metric(length: int, seed: int, data: st.DataObject) -> None:
    """Symmetric, and within constant factors of the footrule (as Fagin et al. show), which is a metric."""
    positions = draw(6, length, seed=seed, top_k=data.draw(st.integers(1, length)))
    footrule = spearman_footrule(positions, positions)
    optimistic, tau = (kendall_tau(positions, positions, penalty=penalty) for penalty in (0.0, 0.5))
    assert (tau == tau.T).all()
    assert (np.diag(tau) == 0).all()
    assert (optimistic <= footrule).all()
    assert (footrule <= 2 * optimistic).all()
    assert (optimistic <= tau).all()
    assert (tau <= 1.5 * optimistic).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_truncating_to_all_components_changes_nothing(distance: Distance, length: int) -> None:
    features = np.random.default_rng(5).random((6, length))
    whole = inverted_permutations(features)
    for top_k in {length, length + 5, max(1, length - 1)}:
        truncated = inverted_permutations(features, top_k=top_k)
        assert (distance(truncated, truncated) == distance(whole, whole)).all()


@pytest.mark.parametrize("length", [2, 5, 8])
def test_largest_distances(length: int) -> None:
    V = length
    forwards = np.arange(1, V + 1)
    assert float(spearman_rho(forwards, forwards[::-1])) == pytest.approx(np.sqrt(V * (V**2 - 1) / 3))
    assert float(spearman_footrule(forwards, forwards[::-1])) == V**2 // 2
    assert float(kendall_tau(forwards, forwards[::-1])) == V * (V - 1) / 2
    for K in range(1, V // 2 + 1):
        apart = np.minimum(forwards, K + 1), np.minimum(forwards[::-1], K + 1)
        assert float(spearman_rho(*apart)) == pytest.approx(np.sqrt(K * (K + 1) * (2 * K + 1) / 3))
        assert float(spearman_footrule(*apart)) == K * (K + 1)
        assert K == 1 == V - 1 or float(kendall_tau(*apart, penalty=0.25)) == K**2 + 0.25 * K * (K - 1)


@pytest.mark.parametrize("distance", DISTANCES)
def test_shapes(distance: Distance, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = draw(3, 20, seed=1, top_k=9), draw(40, 20, seed=2, top_k=9)
    found = distance(first, second)
    assert found.shape == (3, 40)
    assert found.dtype == np.float64
    assert distance(first[0], second).tolist() == found[0].tolist()
    assert distance(first, second[7]).tolist() == found[:, 7].tolist()
    assert distance(first[2], second[3]).shape == ()
    assert distance(first[:0], second).shape == (0, 40)
    assert distance(first, second[:0]).shape == (3, 0)
    monkeypatch.setattr(module, "BLOCK_POSITIONS", 9 * 7)
    assert (distance(first, second) == found).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("first", "second"), [([1, 2], [1, 2, 3]), ([[[1, 2]]], [1, 2]), (1, [1])])
def test_incomparable_shapes_are_rejected(distance: Distance, first: ArrayLike, second: ArrayLike) -> None:
    with pytest.raises(InvalidInput):
        distance(first, second)


def test_kendall_rejects_invalid_permutations() -> None:
    for wrong in ([1, 1, 3], [0, 1, 2], [1, 3, 3], [[1, 2, 3], [1, 2, 2]], [1, 2, 9]):
        with pytest.raises(InvalidInput, match="expected each position from 1 to"):
            kendall_tau([1, 2, 3], wrong)
    for penalty in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInput, match="penalty is"):
            kendall_tau([1, 2], [1, 2], penalty=penalty)


def assert_ranks_alike(dots: NDArray[np.int64], distances: NDArray[np.float64]) -> None:
    """Assert that larger dot products mean smaller distances, and equal ones equal distances."""
    for products, row in zip(dots, distances, strict=True):
        larger = products[:, np.newaxis] > products
        assert (larger == (row[:, np.newaxis] < row)).all()


@given(
    dimensions=st.integers(2, 16), seed=st.integers(0, 2**32), crelu=st.booleans(), ties=st.booleans(), data=st.data()
)
@settings(max_examples=100, deadline=None)
def test_dot_products_of_frequencies_rank_as_rho(
    dimensions: int, seed: int, crelu: bool, ties: bool, data: st.DataObject
) -> None:
    """Queries and documents have their own K, or are not truncated; equal components make scores tie."""
    rng = np.random.default_rng(seed)
    shape = (12, dimensions)
    features = rng.choice([-3, -2, -1, 1, 2, 3], shape) if ties else rng.standard_normal(shape)
    features = features.astype(np.float32)
    numbers = [data.draw(st.integers(1, dimensions)) for _ in range(2)]
    ranked = np.concatenate([np.maximum(features, 0), np.maximum(-features, 0)], axis=1) if crelu else features
    documents, queries = (dt.DeepPermutation(dimensions, top_k=k, crelu=crelu).encode(features) for k in numbers)
    positions = [inverted_permutations(ranked, top_k=k) for k in numbers]
    dots = (queries.matrix @ documents.matrix.T).toarray()
    assert_ranks_alike(dots, spearman_rho(positions[1], positions[0]))
    index = dt.MemoryIndex(dt.DeepPermutation(dimensions, top_k=numbers[0], crelu=crelu), store_vectors=False)
    index.add([str(row) for row in range(12)], features)
    scores = {hit.id: hit.score for hit in index.search(features[0], k=12, rerank=0)}
    assert_ranks_alike(
        np.array([[int(scores.get(str(row), 0)) for row in range(12)]]), spearman_rho(positions[0][:1], positions[0])
    )


def test_the_ranking_assertion_can_fail() -> None:
    assert_ranks_alike(np.array([[3, 2, 2]]), np.array([[1.0, 2.0, 2.0]]))
    for distances in ([1.0, 2.0, 3.0], [2.0, 1.0, 1.0]):
        with pytest.raises(AssertionError):
            assert_ranks_alike(np.array([[3, 2, 2]]), np.array([distances]))
