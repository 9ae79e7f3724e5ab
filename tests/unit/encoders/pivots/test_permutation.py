"""Pivot permutations: small worked examples, the rules for ties, and the definition in exact arithmetic."""

from __future__ import annotations

import itertools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
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
from deepterms.encoders.pivots.permutation import PivotWeights
from deepterms.encoders.pivots.pivots import Metric
from deepterms.encoders.pivots.projection import PivotProjection
from deepterms.errors import InvalidInput, MissingPivots

AXES = dt.Pivots(np.eye(4, dtype=np.float32))


def by_definition(pivots: dt.Pivots, feature: NDArray[np.float32], count: int) -> list[int]:
    """Find the nearest pivots by fractions. They are exact, so use only numbers that the grid does not round."""
    q = [Fraction(float(x)) for x in feature]
    keys = []
    for number, row in enumerate(pivots.features):
        p = [Fraction(float(x)) for x in row]
        product = sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0))
        if pivots.metric == "cosine":  # sign · squared cosine ranks as the cosine does
            near = product * abs(product) / sum((a * a for a in p), Fraction(0))
        else:
            near = -sum(((a - b) ** 2 for a, b in zip(p, q, strict=True)), Fraction(0))
        keys.append((-near, number))
    return [number for _, number in sorted(keys)[:count]]


def test_documents_name_their_nearest_pivots() -> None:
    encoder = dt.PivotPermutation(AXES, top_k=2, query_top_k=3)
    feature = [0.1, 0.8, 0.4, -0.9]
    assert encoder.encode(feature).to_terms() == [{"t1": 1, "t2": 1}]
    assert encoder.encode_queries(feature).to_terms() == [{"t1": 1000, "t2": 250, "t0": 16}]


def test_ranks_count_down() -> None:
    encoder = dt.PivotPermutation(AXES, top_k=2, query_top_k=4, weights="ranks")
    feature = [0.1, 0.8, 0.4, -0.9]
    assert encoder.encode(feature).to_terms() == [{"t1": 2, "t2": 1}]
    assert encoder.encode_queries(feature).to_terms() == [{"t1": 4, "t2": 3, "t0": 2, "t3": 1}]


def test_l2_weights_follow_the_distance() -> None:
    # Squared distances from the query: 1, 4, 16 and 25. The farthest of three pivots is 4 away: 1 − d²/32.
    pivots = dt.Pivots([[1, 0], [-2, 0], [0, 4], [5, 0]], metric="l2")
    encoder = dt.PivotPermutation(pivots, top_k=1, query_top_k=3)
    ((components, weights),) = encoder.encode_queries([1e-30, 0]).rows()
    assert components.tolist() == [0, 1, 2]
    assert weights.tolist() == [1000, round(1000 * (28 / 31) ** 2), round(1000 * (16 / 31) ** 2)]
    # The same in another unit of length.
    larger = dt.PivotPermutation(dt.Pivots(pivots.features * 8, metric="l2"), top_k=1, query_top_k=3)
    assert larger.encode_queries([8e-30, 0]).to_terms() == encoder.encode_queries([1e-30, 0]).to_terms()


def test_a_query_equal_to_duplicate_pivots() -> None:
    encoder = dt.PivotPermutation(dt.Pivots([[1, 2], [1, 2], [3, 4]], metric="l2"), top_k=1, query_top_k=2)
    assert encoder.encode_queries([1, 2]).to_terms() == [{"t0": 1000, "t1": 1000}]


def test_a_query_that_points_away_from_every_pivot() -> None:
    encoder = dt.PivotPermutation(AXES, top_k=1, query_top_k=2)
    assert encoder.encode_queries([-1, -2, -3, -4]).to_terms() == [{"t0": 1, "t1": 1}]


def test_ties_go_to_the_lower_pivot() -> None:
    pivots = dt.Pivots(np.array([[0, 1], [1, 0], [2, 0], [1, 0], [0.5, 0], [-1, 0]], dtype=np.float32))
    encoder = dt.PivotPermutation(pivots, top_k=3, query_top_k=4)
    assert encoder.encode([3, 0]).to_terms() == [{"t1": 1, "t2": 1, "t3": 1}]
    assert encoder.encode_queries([3, 0]).to_terms() == [{"t1": 1000, "t2": 1000, "t3": 1000, "t4": 1000}]
    apart = dt.PivotPermutation(dt.Pivots([[0, 1], [0, -1], [9, 9]], metric="l2"), top_k=1, query_top_k=1)
    assert apart.encode([[1, 0], [-1, 0]]).to_terms() == [{"t0": 1}, {"t0": 1}]


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
        assert numbers.tolist() == [by_definition(given_, row, count) for row in features]
    else:  # equal cosines of pivots of different lengths may differ in the last of 53 bits
        for row, found in zip(features, numbers, strict=True):
            exact = by_definition(given_, row, count)
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
        candidates[
            ::2, : len(candidates[0]) - count + 1
        ] = -1  # every other descriptor gets one too few
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


def test_auto_search_depends_on_the_number_of_pivots() -> None:
    few, many = (dt.Pivots(np.eye(2)[np.arange(count) % 2]) for count in (1_024, 1_025))
    assert [dt.PivotPermutation(pivots).search for pivots in (few, many)] == ["exact", "projected"]
    assert dt.PivotPermutation(many, search="exact") != dt.PivotPermutation(many)
    assert dt.PivotPermutation(few).spec()["search"] == "exact"


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_descriptors_of_any_scale(scale: float) -> None:
    feature = np.array([[1, 2]], dtype=np.float32) * np.float32(scale)
    cosine = dt.Pivots(np.array([[60000, 0], [0, 6e-8], [-60000, 1]], dtype=np.float16))
    assert NearestPivots(cosine).find(feature, 3)[0].tolist() == [[1, 0, 2]]
    lengths = dt.Pivots([[60000, 0], [0, 1], [-60000, 1], [60000, 60000]], metric="l2")
    numbers, nearness = NearestPivots(lengths).find(feature, 4)
    assert np.isfinite(nearness).all()
    assert numbers.tolist() == [[3, 0, 1, 2] if scale == 1e38 else [1, 0, 2, 3]]


@pytest.mark.parametrize("weights", ["binary", "ranks"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_memory_index_finds_near_descriptors(metric: Metric, weights: PivotWeights) -> None:
    rng = np.random.default_rng(5)
    features = rng.standard_normal((400, 16)).astype(np.float32)
    encoder = dt.PivotPermutation(dt.Pivots(features[::4], metric=metric), top_k=4, query_top_k=8, weights=weights)
    index = dt.MemoryIndex(encoder)
    index.add([f"d{n}" for n in range(400)], features)
    (document,) = encoder.encode(features[7]).to_terms()
    (query,) = encoder.encode_queries(features[7]).to_terms()
    best = index.search(features[7], k=400, rerank=0)
    assert {hit.id: hit.score for hit in best}["d7"] == sum(query[name] * document[name] for name in document)
    assert index.search(features[7]).ids[0] == "d7"
    stored = index.get("d7")
    assert stored is not None
    assert stored.terms == document


@given(
    pivots=arrays(np.float16, st.tuples(st.integers(1, 10), st.just(3)), elements=small),
    features=arrays(np.float32, st.tuples(st.integers(2, 6), st.just(3)), elements=small),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_the_mi_file_ranks_by_spearmans_rho(
    pivots: NDArray[np.float16], features: NDArray[np.float32], data: st.DataObject
) -> None:
    """Scores rank as rho, computed directly, for truncated and full permutations, with equal and different K."""
    features[~features.any(axis=1), 0] = 1
    top_k, query_top_k = (data.draw(st.integers(1, len(pivots))) for _ in range(2))
    encoder = dt.PivotPermutation(
        dt.Pivots(pivots, metric="l2"), top_k=top_k, query_top_k=query_top_k, weights="ranks", search="exact"
    )
    nearest = [by_definition(encoder.pivots, row, len(pivots)) for row in features]  # all pivots, nearest first
    places = [[row.index(pivot) + 1 for pivot in range(len(pivots))] for row in nearest]
    index = dt.MemoryIndex(encoder, store_vectors=False)
    index.add([str(row) for row in range(len(features))], features)
    for query, place in enumerate(places):
        squares = [
            sum((min(a, query_top_k + 1) - min(b, top_k + 1)) ** 2 for a, b in zip(place, other, strict=True))
            for other in places
        ]
        found = {int(hit.id): int(hit.score) for hit in index.search(features[query], k=len(features), rerank=0)}
        for one, other in itertools.product(range(len(features)), repeat=2):
            assert (found.get(one, 0) > found.get(other, 0)) == (squares[one] < squares[other])
        if top_k == query_top_k:
            norms = top_k * (top_k + 1) * (2 * top_k + 1) // 3
            assert [norms - 2 * found.get(row, 0) for row in range(len(features))] == squares


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ([1.0, np.nan, 0.0, 0.0], "row 0: the feature has a NaN or infinite"),
        ([0.0, -0.0, 0.0, 0.0], "all zero"),
        ([1.0, 2.0], "expected (N, 4)"),
    ],
)
def test_unusable_features_are_rejected(feature: list[float], message: str) -> None:
    encoder = dt.PivotPermutation(AXES, top_k=1, query_top_k=1)
    for encode in (encoder.encode, encoder.encode_queries):
        with pytest.raises(InvalidInput) as error:
            encode(feature)
        assert message in str(error.value)


def test_no_features_give_no_rows() -> None:
    empty = dt.PivotPermutation(AXES, top_k=2, query_top_k=2).encode(np.empty((0, 4)))
    assert (len(empty), empty.vocabulary_size) == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0; expected 1 to 4"),
        ({"top_k": 5}, "top_k is 5"),
        ({"top_k": 2, "query_top_k": 9}, "query_top_k is 9"),
        (
            {"top_k": 2, "query_top_k": 2, "search": "tree"},
            "search is 'tree'; expected one of auto, exact",
        ),
        ({"top_k": 2, "query_top_k": 2, "weights": "values"}, "weights is 'values'; expected one of binary, ranks"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        dt.PivotPermutation(AXES, **options)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_zero_pivot_is_rejected_for_cosine() -> None:
    with pytest.raises(InvalidInput, match="pivot 1 is all zero in float16"):
        dt.Pivots(np.array([[1, 0], [0, 0]], dtype=np.float16))
    assert len(dt.Pivots([[1, 0], [0, 0]], metric="l2")) == 2


def test_spec_rebuilds_the_encoder() -> None:
    encoder = dt.PivotPermutation(AXES, top_k=2, query_top_k=3, weights="ranks")
    spec = encoder.spec()
    assert spec["pivots"] == AXES.spec()
    assert dt.encoder_from_spec(spec, pivots=dt.Pivots(AXES.features)) == encoder
    assert str(encoder) == f"pivot-permutation/4x4/cosine/{AXES.checksum[:8]}/k2/q3/ranks/exact"
    assert isinstance(encoder, dt.Encoder)
    with pytest.raises(MissingPivots, match=r"needs 4 pivots of 4 dimensions .* none were given"):
        dt.encoder_from_spec(spec)
    with pytest.raises(MissingPivots, match="got others"):
        dt.encoder_from_spec(spec, pivots=dt.Pivots(np.eye(4), metric="l2"))
    for wrong in ({**spec, "pivots": None}, {**spec, "top_k": 0}, {**spec, "more": 1}, {**spec, "weights": "other"}):
        with pytest.raises(InvalidInput):
            dt.encoder_from_spec(wrong, pivots=AXES)


def test_a_pickled_encoder_encodes_identically() -> None:
    encoder = dt.PivotPermutation(AXES, top_k=2, query_top_k=3)
    encoder.encode([1, 2, 3, 4])
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    assert again.encode([1, 2, 3, 4]).to_terms() == encoder.encode([1, 2, 3, 4]).to_terms()
