"""Scalar quantization: the definition, one component at a time; ties, zeros and bounds; what is rejected."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.linalg import hadamard

import deepterms as dt
from deepterms.encoders import scalar_quantization
from deepterms.encoders.rotation import draw_signs, rotate
from deepterms.errors import InvalidInput


def by_definition(encoder: dt.ScalarQuantization, feature: NDArray[np.float32]) -> dict[str, int]:
    """Encode in exact arithmetic: ⌊s·x/‖x‖⌋ is the largest f with f²·‖x‖² ≤ s²·x²."""
    values = [Fraction(float(x)) for x in feature]
    values = [max(x, Fraction(0)) for x in values] + [max(-x, Fraction(0)) for x in values]
    square = sum((x * x for x in values), Fraction(0))
    ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))
    kept = ranked if encoder.top_k is None else ranked[: encoder.top_k]
    least = Fraction(encoder.threshold) ** 2 * square
    words = {}
    for i in kept:
        frequency = math.isqrt(math.floor(encoder.factor**2 * values[i] ** 2 / square))
        if frequency and values[i] ** 2 >= least:
            words[f"t{i}"] = frequency
    return words or {f"t{ranked[0]}": 1}


# Multiples of 3 and 4, so that many lengths are whole numbers and products lie on the boundary of a frequency.
whole = st.sampled_from([-12.0, -8.0, -4.0, -3.0, -0.0, 0.0, 3.0, 4.0, 6.0, 12.0])


@given(
    features=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=whole),
    factor=st.one_of(st.integers(1, 60), st.just(65_535)),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_matches_the_definition(
    features: NDArray[np.float32], factor: int, threshold: float, data: st.DataObject
) -> None:
    features[~features.any(axis=1), 0] = 1
    top_k = data.draw(st.one_of(st.none(), st.integers(1, features.shape[1])))
    encoder = dt.ScalarQuantization(features.shape[1], factor=factor, top_k=top_k, threshold=threshold)
    encoded = encoder.encode(features)
    found, expected = encoded.to_terms(), [by_definition(encoder, row) for row in features]
    for row, words, exact in zip(features, found, expected, strict=True):
        length = math.sqrt(float((row.astype(np.float64) ** 2).sum()))
        if length.is_integer():
            assert words == exact
        else:  # on the boundary of a frequency, rounding may cross it
            assert words.keys() ^ exact.keys() <= {name for name in words | exact if (words | exact)[name] == 1}
            assert all(abs(words[name] - exact[name]) <= 1 for name in words.keys() & exact.keys())
    assert encoded.matrix.has_canonical_format


anything = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    features=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=anything),
    factor=st.integers(1, 65_535),
    threshold=st.floats(0, 1),
    seed=st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_documents_stay_within_the_bounds(
    features: NDArray[np.float32], factor: int, threshold: float, seed: int | None, data: st.DataObject
) -> None:
    features[~features.any(axis=1), 0] = 1
    encoder = dt.ScalarQuantization(features.shape[1], factor=factor, threshold=threshold, rotation_seed=seed)
    top_k = data.draw(st.one_of(st.none(), st.integers(1, encoder.quantized_dimensions)))
    encoder = replace(encoder, top_k=top_k)
    terms = encoder.encode(features)
    assert terms.vocabulary_size == encoder.vocabulary_size
    assert dt.encoder_from_spec(json.loads(json.dumps(encoder.spec()))) == encoder
    for _, frequencies in terms.rows():
        assert 1 <= len(frequencies) <= (top_k or encoder.quantized_dimensions)
        assert frequencies.max() <= encoder.max_term_frequency
        assert frequencies.sum() <= encoder.max_words
    alone = np.zeros(features.shape[1], dtype=np.float32)
    alone[0] = features.flat[np.abs(features).argmax()]
    if seed is None:
        assert encoder.encode(alone).matrix.max() == factor  # its unit vector needs no rounding


def test_dot_products_are_cosines() -> None:
    rows = np.random.default_rng(1).standard_normal((40, 300)).astype(np.float32)
    rows[1:10] += 2 * rows[0]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for seed in (None, 7):
        terms = dt.ScalarQuantization(300, factor=4_000, rotation_seed=seed).encode(rows).matrix
        # Components of opposite sign share no codeword, so their products are missing from the sum.
        components = unit if seed is None else rotate(rows, draw_signs(f"deepterms scalar quantization {seed}", 300))
        components = components / np.linalg.norm(components, axis=1, keepdims=True)
        rectified = np.concatenate([np.maximum(components, 0), np.maximum(-components, 0)], axis=1)
        np.testing.assert_allclose((terms @ terms.T).toarray() / 4_000**2, rectified @ rectified.T, atol=0.01)


def test_a_rotation_keeps_angles() -> None:
    rows = np.random.default_rng(2).standard_normal((8, 100)).astype(np.float32)
    rows[:, 60:] *= 1e-3  # components of different magnitude
    signs = draw_signs("any", 100)
    turned = rotate(rows, signs)
    turned = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(turned @ turned.T, unit @ unit.T, atol=1e-5)
    padded = np.zeros((8, 128))
    padded[:, :100] = unit * signs
    np.testing.assert_allclose(turned, padded @ hadamard(128) / math.sqrt(128), atol=1e-5)
    sizes = [np.abs(part).mean(axis=0).std() / np.abs(part).mean() for part in (unit, turned)]
    assert sizes[1] < sizes[0] / 2


def test_rotation_matches_the_first_release() -> None:
    """No spec records the rotation, so a change would make every index unreadable."""
    encoder = dt.ScalarQuantization(3, factor=100, rotation_seed=5)
    assert encoder.encode([3, 2, 1]).to_terms() == [{"t0": 53, "t2": 80, "t3": 26}]


def test_ties_go_to_the_lower_codeword() -> None:
    encoder = dt.ScalarQuantization(4, factor=10, top_k=2)
    assert encoder.encode([-1, 1, 1, -1]).to_terms() == [{"t1": 5, "t2": 5}]
    assert encoder.encode([-1, -1, -1, 1]).to_terms() == [{"t3": 5, "t4": 5}]


def test_every_document_has_a_word() -> None:
    rows = np.ones((1, 100), dtype=np.float32)
    rows[0, 3] = -1.5  # the length is 10.06
    assert dt.ScalarQuantization(100, factor=5).encode(rows).to_terms() == [{"t103": 1}]
    assert dt.ScalarQuantization(100, factor=500, threshold=0.9).encode(rows).to_terms() == [{"t103": 1}]


def test_threshold_keeps_the_requested_number_of_words() -> None:
    rows = np.random.default_rng(3).standard_normal((200, 64)).astype(np.float32)
    for seed in (None, 1):
        encoder = dt.ScalarQuantization(64, factor=20_000, rotation_seed=seed)
        for words in (0.5, 10, 64):
            threshold = encoder.threshold_for(rows, words=words)
            terms = replace(encoder, threshold=threshold).encode(rows)
            expected = max(round(200 * words), 200) if words < 1 else 200 * words
            assert terms.matrix.nnz == pytest.approx(expected, rel=0.1 if words < 1 else 0.005)
    for words in (0, 64.1, -1):
        with pytest.raises(InvalidInput, match="expected more than 0, up to 64 components"):
            dt.ScalarQuantization(64).threshold_for(rows, words=words)
    with pytest.raises(InvalidInput, match="for 0 features"):
        dt.ScalarQuantization(64).threshold_for(rows[:0], words=3)


def test_block_size_and_scale_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(4).standard_normal((30, 24)).astype(np.float32)
    for encoder in (dt.ScalarQuantization(24, top_k=9), dt.ScalarQuantization(24, rotation_seed=0)):
        whole = encoder.encode(rows)
        with monkeypatch.context() as patched:
            patched.setattr(scalar_quantization, "BLOCK_BYTES", 8 * 32 * 7)
            assert (encoder.encode(rows).matrix != whole.matrix).nnz == 0
        for scale in (2.0**-100, 2.0**120):
            assert (encoder.encode(rows * np.float32(scale)).matrix != whole.matrix).nnz == 0
        assert (encoder.encode_queries(rows).matrix != whole.matrix).nnz == 0


def test_no_features_give_no_rows() -> None:
    empty = dt.ScalarQuantization(6, rotation_seed=1).encode(np.empty((0, 6)))
    assert (len(empty), empty.vocabulary_size) == (0, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions is 0; expected at least 1"),
        ({"factor": 0}, "factor is 0; expected a whole number from 1 to 65535"),
        ({"factor": 65_536}, "factor is 65536"),
        ({"factor": 1.5}, "factor is 1.5"),
        ({"top_k": 0}, "top_k is 0; expected 1 to 6 components, or None"),
        ({"top_k": 7}, "top_k is 7"),
        ({"top_k": 9, "rotation_seed": 0}, "top_k is 9; expected 1 to 8"),
        ({"threshold": -0.1}, "threshold is -0.1; expected 0 to 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"rotation_seed": -1}, "rotation_seed is -1"),
        ({"rotation_seed": 2**63}, "expected 0 to 2^63"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        dt.ScalarQuantization(**{"dimensions": 6, **options})
    assert message in str(error.value)


@pytest.mark.parametrize("feature", [[np.nan, 1.0], [0.0, 0.0], [1.0], ["a", "b"]])
def test_unusable_features_are_rejected(feature: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        dt.ScalarQuantization(2).encode(feature)


def test_spec_rebuilds_the_encoder() -> None:
    plain = dt.ScalarQuantization(100)
    full = dt.ScalarQuantization(100, factor=90, top_k=12, threshold=0.125, rotation_seed=3)
    assert [str(encoder) for encoder in (plain, full)] == [
        "scalar-quantization/d100/s500",
        "scalar-quantization/d100/s90/k12/t0.125/seed3",
    ]
    for encoder in (plain, full):
        assert isinstance(encoder, dt.Encoder)
        assert dt.encoder_from_spec(encoder.spec()) == encoder
        for wrong in ({"factor": 2.5}, {"top_k": "all"}, {"threshold": 2}, {"rotation_seed": -1}, {"more": 1}):
            with pytest.raises(InvalidInput):
                dt.encoder_from_spec({**encoder.spec(), **wrong})


def test_searches_find_the_nearest_by_cosine() -> None:
    rows = np.random.default_rng(6).standard_normal((300, 64)).astype(np.float32)
    index = dt.MemoryIndex(dt.ScalarQuantization(64, top_k=40, rotation_seed=2), store_vectors=False)
    index.add([str(row) for row in range(300)], rows)
    near = rows[:20] + np.random.default_rng(7).normal(scale=0.5, size=(20, 64))
    assert [index.search(row, rerank=0).ids[0] for row in near] == [str(row) for row in range(20)]
