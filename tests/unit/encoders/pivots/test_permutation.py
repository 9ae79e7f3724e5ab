"""Pivot permutations: small worked examples, the rules for ties, weights, specs, and search by rank."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders.pivots.permutation import PivotWeights
from deepterms.encoders.pivots.pivots import Metric
from deepterms.errors import InvalidInput, MissingPivots
from tests.unit.encoders.pivots.definition import rank_by_definition

AXES = dt.Pivots(np.eye(4, dtype=np.float32))
small = st.integers(-4, 4).map(float)


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


def test_the_spill_of_binary_weights_is_soar_by_default() -> None:
    binary, ranks = (dt.PivotPermutation(AXES, top_k=2, query_top_k=2, weights=kind) for kind in ("binary", "ranks"))
    assert (binary.spill, ranks.spill) == ("soar", "nearest")
    assert str(binary).endswith("/binary/exact/soar")
    assert str(ranks).endswith("/ranks/exact")
    assert binary.spec() == replace(binary, spill="nearest").spec() | {"spill": "soar"}
    assert "spill" not in ranks.spec()


def test_a_spec_without_a_spill_means_the_nearest() -> None:
    """Indices created before there was a choice keep their words, and their spec is still that of their encoder."""
    spec = {
        "type": "pivot_permutation",
        "pivots": AXES.spec(),
        "top_k": 2,
        "query_top_k": 3,
        "search": "exact",
        "weights": "binary",
    }
    encoder = dt.encoder_from_spec(spec, pivots=AXES)
    assert encoder == dt.PivotPermutation(AXES, top_k=2, query_top_k=3, spill="nearest")
    assert encoder.spec() == spec
    spilled = dt.encoder_from_spec(spec | {"spill": "soar"}, pivots=AXES)
    assert spilled == dt.PivotPermutation(AXES, top_k=2, query_top_k=3, spill="soar")
    with pytest.raises(InvalidInput, match="spill"):
        dt.encoder_from_spec(spec | {"spill": "all"}, pivots=AXES)
    with pytest.raises(InvalidInput, match="spill is 'soar' and weights is 'ranks'"):
        dt.encoder_from_spec(spec | {"spill": "soar", "weights": "ranks"}, pivots=AXES)


def test_queries_do_not_depend_on_the_spill() -> None:
    rng = np.random.default_rng(0)
    pivots, features = dt.Pivots(rng.standard_normal((80, 6))), rng.standard_normal((30, 6))
    near, soar = (dt.PivotPermutation(pivots, top_k=4, query_top_k=9, spill=kind) for kind in ("nearest", "soar"))
    assert near.encode_queries(features).to_terms() == soar.encode_queries(features).to_terms()
    documents = [encoder.encode(features).to_terms() for encoder in (near, soar)]
    assert documents[0] != documents[1]
    assert {len(terms) for terms in documents[1]} == {4}


def test_auto_search_depends_on_the_number_of_pivots() -> None:
    few, many = (dt.Pivots(np.eye(2)[np.arange(count) % 2]) for count in (1_024, 1_025))
    assert [dt.PivotPermutation(pivots).search for pivots in (few, many)] == ["exact", "projected"]
    assert dt.PivotPermutation(many, search="exact") != dt.PivotPermutation(many)
    assert dt.PivotPermutation(few).spec()["search"] == "exact"


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
    nearest = [rank_by_definition(encoder.pivots, row, len(pivots)) for row in features]  # all pivots, nearest first
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
        ({"top_k": 2, "query_top_k": 2, "spill": "far"}, "spill is 'far'; expected one of auto, nearest, soar"),
        (
            {"top_k": 2, "query_top_k": 2, "spill": "soar", "weights": "ranks"},
            "spill is 'soar' and weights is 'ranks', which are those of the nearest pivots; use spill='nearest'",
        ),
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
