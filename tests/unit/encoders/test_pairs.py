"""Pair codewords and pivot pairs: the definition, pair by pair; the numbering; what is rejected."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.linalg import hadamard

import deepterms as dt
from deepterms.encoders import pair_codewords
from deepterms.encoders.pairs import count_pairs, list_rank_pairs, number_pairs
from deepterms.errors import InvalidInput, MissingPivots


@given(st.integers(2, 40))
@settings(deadline=None)
def test_every_pair_has_its_own_number(numbers: int) -> None:
    first, second = map(np.array, zip(*itertools.combinations(range(numbers), 2), strict=True))
    found = number_pairs(first, second)
    assert sorted(found.tolist()) == list(range(count_pairs(numbers)))
    assert (number_pairs(second, first) == found).all()


def test_rank_pairs_are_listed_in_order() -> None:
    assert [list(zip(*map(list, list_rank_pairs(n)), strict=True)) for n in (2, 3)] == [
        [(0, 1)],
        [(0, 1), (0, 2), (1, 2)],
    ]
    first, second = list_rank_pairs(4, rank_sum=5)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2)]
    assert len(list_rank_pairs(27, rank_sum=28)[0]) == 182


def by_definition(encoder: dt.PairCodewords, feature: NDArray[np.float32], rank_sum: int) -> dict[str, int]:
    """Encode by definition: signs, a Hadamard matrix in float64, CReLU, a stable sort, and a loop over pairs."""
    size = encoder.rotated_dimensions
    words = {}
    for rotation in range(encoder.rotations):
        padded = np.zeros(size)
        padded[: encoder.dimensions] = feature * encoder._draw_signs(rotation)
        rotated = hadamard(size) @ padded
        rectified = np.concatenate([np.maximum(rotated, 0), np.maximum(-rotated, 0)])
        ranked = [int(i) for i in np.argsort(-rectified, kind="stable") if rectified[i] > 0]
        for (i, a), (j, b) in itertools.combinations(enumerate(ranked, 1), 2):
            if i + j <= rank_sum:
                low, high = sorted((a, b))
                words[f"t{rotation * size * (2 * size - 1) + high * (high - 1) // 2 + low}"] = 1
    return words


@given(
    features=arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(2, 9)), elements=st.integers(-3, 3).map(float)
    ),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_matches_the_definition(features: NDArray[np.float32], data: st.DataObject) -> None:
    """Small whole numbers: float32 sums are exact, and there are many ties and zeros."""
    features[~features.any(axis=1), 0] = 1
    dimensions = features.shape[1]
    largest = 2 ** (dimensions - 1).bit_length() + 1
    sums = data.draw(st.tuples(st.integers(3, largest), st.integers(3, largest)))
    encoder = dt.PairCodewords(
        dimensions, rotations=data.draw(st.integers(1, 3)), rank_sum=sums[0], query_rank_sum=sums[1], seed=5
    )
    assert encoder.encode(features).to_terms() == [by_definition(encoder, row, sums[0]) for row in features]
    assert encoder.encode_queries(features).to_terms() == [by_definition(encoder, row, sums[1]) for row in features]


def test_default_number_of_words() -> None:
    features = np.random.default_rng(1).standard_normal((5, 1280)).astype(np.float32)
    encoder = dt.PairCodewords(1280)
    terms = encoder.encode(features)
    assert np.diff(terms.matrix.indptr).tolist() == [4 * 182] * 5
    assert terms.vocabulary_size == 4 * (4096 * 4095 // 2)
    assert (terms.matrix.data == 1).all()
    assert [json.loads(text) for text in terms.to_json()] == terms.to_terms()


def test_block_size_and_scale_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(2).standard_normal((30, 24)).astype(np.float32)
    encoder = dt.PairCodewords(24, rank_sum=12)
    whole = encoder.encode(features)
    monkeypatch.setattr(pair_codewords, "BLOCK_BYTES", 4 * 32 * 7)
    assert (encoder.encode(features).matrix != whole.matrix).nnz == 0
    for scale in (2.0**-100, 2.0**120):
        assert (encoder.encode(features * np.float32(scale)).matrix != whole.matrix).nnz == 0


def test_another_seed_gives_another_rotation() -> None:
    feature = np.random.default_rng(3).standard_normal(64).astype(np.float32)
    encoders = [dt.PairCodewords(64, rotations=1, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (set(encoder.encode(feature).to_terms()[0]) for encoder in encoders)
    assert first == again
    assert len(first & other) < len(first) / 4
    two = dt.PairCodewords(64, rotations=2, seed=0)
    assert first < set(two.encode(feature).to_terms()[0])


def test_signs_match_the_first_release() -> None:
    """No spec records the signs, so a change would make every index unreadable."""
    assert dt.PairCodewords(8, rank_sum=3)._draw_signs(1).tolist() == [1, 1, 1, -1, 1, -1, 1, -1]


def test_near_descriptors_share_more_pairs() -> None:
    rng = np.random.default_rng(4)
    base = rng.standard_normal(200)
    near, far = base + rng.standard_normal(200) / 4, rng.standard_normal(200)
    terms = dt.PairCodewords(200).encode(np.array([base, near, far])).matrix
    shared = (terms @ terms.T).toarray()
    assert shared[0, 1] > 10 * max(1, shared[0, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimensions": 1}, "dimensions is 1; expected at least 2"),
        ({"dimensions": 8, "rotations": 0}, "rotations is 0"),
        ({"dimensions": 8, "rank_sum": 2}, "rank_sum is 2; expected 3 (only the first pair) to 9"),
        ({"dimensions": 8, "rank_sum": 10}, "rank_sum is 10"),
        ({"dimensions": 8, "rank_sum": 4, "query_rank_sum": 1}, "query_rank_sum is 1"),
        ({"dimensions": 64, "seed": -1}, "seed is -1"),
        ({"dimensions": 16_384, "rotations": 5}, "use at most 4"),
        ({"dimensions": 100_000}, "by PCA"),
    ],
)
def test_invalid_sizes_are_rejected(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        dt.PairCodewords(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("feature", [[np.nan, 1.0], [0.0, 0.0], [1.0]])
def test_unusable_features_are_rejected(feature: list[float]) -> None:
    with pytest.raises(InvalidInput):
        dt.PairCodewords(2, rank_sum=3).encode(feature)


def test_pairs_of_pivots() -> None:
    pivots = dt.Pivots(np.eye(5, dtype=np.float32))
    encoder = dt.PivotPairs(pivots, top_k=2, query_top_k=3)
    feature = [0.0, 0.4, 0.8, 0.2, 0.1]  # nearest 2, 1, 3
    assert encoder.encode(feature).to_terms() == [{"t2": 1}]  # {1, 2}: 2·1/2 + 1
    # {1, 2}, {2, 3}, {1, 3}: sums 1.2, 1.0, 0.6
    assert encoder.encode_queries(feature).to_terms() == [{"t2": 1000, "t5": 833, "t4": 500}]
    assert encoder.vocabulary_size == 10
    ranked = dt.PivotPairs(dt.Pivots(np.eye(5), metric="l2"), top_k=3, query_top_k=3).encode_queries(feature)
    assert ranked.matrix.indices.tolist() == [2, 4, 5]
    assert ranked.matrix.data.max() == 1000


def test_specs_rebuild_the_encoders() -> None:
    codewords = dt.PairCodewords(100, rotations=3, rank_sum=20, query_rank_sum=10, seed=7)
    assert dt.encoder_from_spec(codewords.spec()) == codewords
    assert str(codewords) == "pair-codewords/d100/r3/s20/q10/seed7"
    assert dt.PairCodewords(100).spec()["query_rank_sum"] == 28
    pivots = dt.Pivots(np.eye(5))
    pairs = dt.PivotPairs(pivots, top_k=2, query_top_k=3)
    assert dt.encoder_from_spec(pairs.spec(), pivots=pivots) == pairs
    assert str(pairs) == f"pivot-pairs/5x5/cosine/{pivots.checksum[:8]}/k2/q3/exact"
    with pytest.raises(MissingPivots):
        dt.encoder_from_spec(pairs.spec())
    for encoder in (codewords, pairs):
        assert isinstance(encoder, dt.Encoder)
        with pytest.raises(InvalidInput):
            dt.encoder_from_spec({**encoder.spec(), "more": 1}, pivots=pivots)


@pytest.mark.parametrize(
    ("pivots", "options", "message"),
    [
        (np.ones((1, 2)), {}, "PivotPairs needs 2 to 65,536 pivots; got 1"),
        (np.ones((65_537, 1)), {}, "got 65,537"),
        (np.eye(5), {"top_k": 1}, "top_k is 1; expected 2 to 5"),
        (np.eye(5), {"top_k": 2, "query_top_k": 6}, "query_top_k is 6"),
    ],
)
def test_invalid_pivot_pairs_are_rejected(pivots: NDArray[np.float64], options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        dt.PivotPairs(dt.Pivots(pivots), **options)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_the_largest_vocabulary_can_be_indexed() -> None:
    """With two billion codewords, nothing may allocate a table of all of them."""
    rows = np.random.default_rng(6).standard_normal((40, 3)).astype(np.float32)
    angles = np.linspace(0, np.pi, 65_536)
    pivots = dt.Pivots(np.stack([np.cos(angles), np.sin(angles), np.zeros(65_536)], axis=1))
    index = dt.MemoryIndex(dt.PivotPairs(pivots, search="exact"))
    index.add([f"d{n}" for n in range(40)], rows)
    assert index.search(rows[7], rerank=0).ids[0] == "d7"
    stats = index.stats()
    assert (stats.terms_per_document, stats.documents) == (6, 40)
    stored = index.get("d7")
    assert stored is not None
    assert stored.terms == index.encoder.encode(rows[7]).to_terms()[0]
    assert len(index.encoder.encode(rows).to_json()) == 40
