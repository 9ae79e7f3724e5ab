"""Deep permutations: the paper's example, the rules for ties and zeros, and the theorem behind search by rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import deepterms as dt
from deepterms.encoders import deep_permutation
from deepterms.errors import InvalidInput
from deepterms.permutations import inverted_permutations, spearman_rho


def encode_by_definition(feature: NDArray[np.float32], top_k: int, crelu: bool, binary: bool = False) -> dict[str, int]:
    """Encode by definition, one component at a time."""
    values = [float(x) for x in feature]
    if crelu:
        values = [max(x, 0.0) for x in values] + [max(-x, 0.0) for x in values]
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))[:top_k]
    return {f"t{i}": 1 if binary else top_k - p for p, i in enumerate(order) if not crelu or values[i] > 0}


def test_reproduces_the_papers_surrogate_text() -> None:
    # Section 3.2: K = 4 of CReLU([.1, −.3, −.4, 0, .2]); the paper counts components from 1.
    (text,) = dt.DeepPermutation(5, top_k=4).encode([0.1, -0.3, -0.4, 0, 0.2]).to_text()
    from_one = " ".join(f"τ{int(word[1:]) + 1}" for word in text.split())
    assert from_one == "τ1 τ5 τ5 τ7 τ7 τ7 τ8 τ8 τ8 τ8"


def test_ranks_all_components_without_crelu() -> None:
    (terms,) = dt.DeepPermutation(5, top_k=5, crelu=False).encode([0.1, 0.3, 0.4, 0, 0.2]).to_terms()
    assert terms == {"t2": 5, "t1": 4, "t4": 3, "t0": 2, "t3": 1}


small = st.sampled_from([-2.0, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-40, 1.0, 2.0, 3.0e38])
anything = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    features=arrays(np.float32, st.tuples(st.integers(1, 5), st.just(12)), elements=st.one_of(small, anything)),
    top_k=st.integers(1, 12),
    crelu=st.booleans(),
    binary=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_matches_the_definition(features: NDArray[np.float32], top_k: int, crelu: bool, binary: bool) -> None:
    features[~features.any(axis=1), 0] = 1
    encoder = dt.DeepPermutation(12, top_k=top_k, crelu=crelu, binary=binary)
    encoded = encoder.encode(features)
    assert encoded.to_terms() == [encode_by_definition(row, top_k, crelu, binary) for row in features]
    assert encoded.matrix.max() <= encoder.max_term_frequency


def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(1).integers(-3, 4, (300, 64)).astype(np.float32)
    features[:, 0] = 1
    encoder = dt.DeepPermutation(64, top_k=40)
    whole = encoder.encode(features)
    monkeypatch.setattr(deep_permutation, "BLOCK_BYTES", 8 * 64 * 7)
    pieces = encoder.encode(features)
    assert (whole.matrix != pieces.matrix).nnz == 0
    assert whole.to_terms() == [encode_by_definition(row, 40, True) for row in features]


def test_float64_is_ranked_as_its_stored_float32() -> None:
    almost = np.array([[1.0, 1.0 + 1e-12, 0.5]])  # equal as float32, so the first component wins
    assert dt.DeepPermutation(3, top_k=1).encode(almost).to_terms() == [{"t0": 1}]


def test_no_features_give_no_rows() -> None:
    empty = dt.DeepPermutation(8, top_k=3).encode(np.empty((0, 8), dtype=np.float32))
    assert len(empty) == 0
    assert empty.vocabulary_size == 16


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ([1.0, np.nan, 0.0], "row 0: the feature has a NaN or infinite"),
        ([1.0, np.inf, 0.0], "NaN or infinite"),
        ([1.0, 1e300, 0.0], "NaN or infinite"),  # beyond float32
        ([0.0, -0.0, 0.0], "all zero"),
        ([1.0, 2.0], "expected (N, 3)"),
        (["a", "b", "c"], "must be numbers"),
    ],
)
def test_unusable_features_are_rejected(feature: list[float], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        dt.DeepPermutation(3, top_k=2).encode(feature)
    assert message in str(error.value)


@pytest.mark.parametrize(("dimensions", "top_k"), [(0, 1), (4, 0), (4, 5), (100_000, 70_000)])
def test_invalid_sizes_are_rejected(dimensions: int, top_k: int) -> None:
    with pytest.raises(InvalidInput):
        dt.DeepPermutation(dimensions, top_k=top_k)


@pytest.mark.parametrize("top_k", [3, 10, 24])
def test_dot_products_rank_as_spearmans_rho(top_k: int) -> None:
    """Σ(a−b)² = Σa² + Σb² − 2·Σab, and Σa² is constant if every row has K frequencies."""
    rng = np.random.default_rng(7)
    features = rng.standard_normal((60, 24)).astype(np.float32)
    terms = dt.DeepPermutation(24, top_k=top_k, crelu=False).encode(features).matrix
    # Components outside the top K have position K + 1, the location parameter.
    positions = inverted_permutations(features, top_k=top_k)
    for query in range(60):
        dots = (terms @ terms[[query]].T).toarray().ravel()
        distances = spearman_rho(positions, positions[query])
        norms = top_k * (top_k + 1) * (2 * top_k + 1) / 6
        np.testing.assert_allclose(distances**2, 2 * norms - 2 * dots, atol=1e-6)


@given(st.integers(2, 20), st.data())
@settings(max_examples=100, deadline=None)
def test_dot_products_rank_as_rho_with_crelu_and_ties(dimensions: int, data: st.DataObject) -> None:
    values = arrays(np.float32, (8, dimensions), elements=st.sampled_from([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]))
    features = data.draw(values)
    top_k = data.draw(st.integers(1, dimensions))
    terms = dt.DeepPermutation(dimensions, top_k=top_k).encode(features).matrix.toarray()
    rectified = np.concatenate([np.maximum(features, 0), np.maximum(-features, 0)], axis=1)
    positions = inverted_permutations(rectified, top_k=top_k)
    assert (np.maximum(top_k + 1 - positions, 0) == terms).all()
    by_rho = spearman_rho(positions, positions[0])
    by_dot = terms @ terms[0]
    for one in range(8):
        for other in range(8):
            assert (by_dot[one] > by_dot[other]) == (by_rho[one] < by_rho[other])


def test_spec_rebuilds_the_encoder() -> None:
    encoder = dt.DeepPermutation(2048, top_k=42, crelu=False)
    assert dt.encoder_from_spec(encoder.spec()) == encoder
    assert str(encoder) == "deep-permutation/d2048/k42"
    binary = dt.DeepPermutation(2048, top_k=42, binary=True)
    assert dt.encoder_from_spec(binary.spec()) == binary != dt.DeepPermutation(2048, top_k=42)
    assert str(binary) == "deep-permutation/d2048/crelu/k42/binary"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "unknown", "dimensions": 8, "top_k": 2, "crelu": True, "binary": False},
        {"type": "deep_permutation", "dimensions": "8", "top_k": 2, "crelu": True, "binary": False},
        {"type": "deep_permutation", "dimensions": 8, "top_k": 2, "crelu": True, "binary": False, "more": 1},
        {"type": "deep_permutation", "dimensions": 8, "top_k": 9, "crelu": True, "binary": False},
        {"type": "deep_permutation", "dimensions": 8, "top_k": 2, "crelu": True},
    ],
)
def test_invalid_specs_are_rejected(spec: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        dt.encoder_from_spec(spec)


def test_satisfies_the_encoder_protocol() -> None:
    assert isinstance(dt.DeepPermutation(4, top_k=2), dt.Encoder)
