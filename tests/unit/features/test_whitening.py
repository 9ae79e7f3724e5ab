from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.features.whitening import PCAWhitening


def training_vectors(seed: int, count: int = 400, channels: int = 12) -> NDArray[np.float32]:
    """Correlated, not centred, with variances over four orders of magnitude."""
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.normal(size=(channels, channels)))[0] * np.geomspace(1, 0.01, channels)[:, None]
    return (rng.normal(size=(count, channels)) @ mixing + rng.normal(size=channels)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(2, 20), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_whitened_vectors_have_identity_covariance(seed: int, channels: int, kept: int) -> None:
    kept = min(kept, channels)
    vectors = training_vectors(seed, channels=channels)
    whitened = PCAWhitening.fit(vectors, dimensions=kept).apply(vectors)
    assert whitened.shape == (400, kept)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.atleast_2d(np.cov(whitened.T)), np.eye(kept), atol=2e-3)


def test_rows_are_sorted_by_descending_variance() -> None:
    vectors = training_vectors(0)
    whitening = PCAWhitening.fit(vectors)
    directions = whitening.projection / np.linalg.norm(whitening.projection, axis=1, keepdims=True)
    variances = (vectors @ directions.T).var(axis=0)
    assert (np.diff(variances) < 0).all()
    fewer = PCAWhitening.fit(vectors, dimensions=5)
    np.testing.assert_array_equal(fewer.projection, whitening.projection[:5])


def test_batches_give_the_same_as_one_array() -> None:
    vectors = training_vectors(1) + 100  # far from the origin, where sums of squares would cancel
    whole = PCAWhitening.fit(vectors)
    batches = PCAWhitening.fit(batch for batch in (vectors[:7], vectors[7:7], vectors[7:8], vectors[8:]))
    np.testing.assert_allclose(batches.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(batches.projection, whole.projection, rtol=1e-4, atol=1e-4)


def test_signs_do_not_depend_on_the_solver() -> None:
    projection = PCAWhitening.fit(training_vectors(2)).projection
    largest = np.take_along_axis(projection, np.abs(projection).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()


def test_regularisation_is_a_share_of_the_largest_variance() -> None:
    vectors = training_vectors(3)
    whitened = PCAWhitening.fit(vectors, regularisation=0.5).apply(vectors)
    assert whitened[:, 0].var(ddof=1) == pytest.approx(1 / 1.5, rel=1e-3)  # λ / (λ + λ/2)
    assert whitened[:, -1].var() < 1e-3


def test_a_saved_whitening_is_loaded_unchanged(tmp_path: Path) -> None:
    vectors = training_vectors(4)
    fitted = PCAWhitening.fit(vectors, dimensions=9)
    fitted.save(tmp_path / "fitted.npz")
    loaded = PCAWhitening.load(tmp_path / "fitted.npz")
    assert (loaded.channels, loaded.dimensions) == (12, 9)
    np.testing.assert_array_equal(loaded.mean, fitted.mean)
    np.testing.assert_allclose(loaded.projection, fitted.projection, rtol=1e-3, atol=1e-3)
    assert loaded.checksum == fitted.checksum
    loaded.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "fitted.npz").read_bytes()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_float16_on_disk_neither_overflows_nor_vanishes(tmp_path: Path, scale: float) -> None:
    projection = np.random.default_rng(5).normal(size=(4, 6)) * scale
    whitening = PCAWhitening(np.zeros(6, np.float32), projection.astype(np.float32))
    whitening.save(tmp_path / "w.npz")
    loaded = PCAWhitening.load(tmp_path / "w.npz").projection
    np.testing.assert_allclose(loaded / scale, projection / scale, atol=2e-3)


def test_checksums_tell_whitenings_apart() -> None:
    first, second = PCAWhitening.fit(training_vectors(6)), PCAWhitening.fit(training_vectors(7))
    assert first.checksum == PCAWhitening.fit(training_vectors(6)).checksum != second.checksum


def test_is_frozen() -> None:
    mean = np.zeros(2, np.float32)
    whitening = PCAWhitening(mean, np.eye(2, dtype=np.float32))
    mean[:] = 7
    assert whitening.mean.tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        whitening.projection[0, 0] = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        whitening.mean = mean  # type: ignore[misc]


def test_too_few_training_vectors_are_rejected() -> None:
    vectors = training_vectors(8, count=6)
    with pytest.raises(InvalidInput, match=r"6 training vectors vary in only 5 of the 12 directions requested"):
        PCAWhitening.fit(vectors)
    assert PCAWhitening.fit(vectors, dimensions=5).dimensions == 5
    assert PCAWhitening.fit(vectors, regularisation=1e-4).dimensions == 12


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (np.zeros((5, 3)), {}, "are equal"),
        (np.ones((1, 3)), {}, "at least 2"),
        (np.ones((0, 3)), {}, "at least 2"),
        (np.ones(3), {}, r"expected \(N, C\)"),
        (np.full((5, 3), np.nan), {}, "NaN"),
        (np.eye(3), {"dimensions": 4}, "1 to 3"),
        (np.eye(3), {"dimensions": 0}, "1 to 3"),
        (np.eye(3), {"regularisation": -1.0}, "0 or more"),
    ],
)
def test_invalid_training_data_is_rejected(
    vectors: NDArray[np.float64], options: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        PCAWhitening.fit(vectors, **options)  # type: ignore[arg-type]


def test_batches_of_different_channels_are_rejected() -> None:
    with pytest.raises(InvalidInput, match=r"expected \(N, 3\)"):
        PCAWhitening.fit([np.eye(3), np.eye(4)])


def test_vectors_of_other_channels_are_rejected() -> None:
    with pytest.raises(InvalidInput, match=r"expected \(N, 12\)"):
        PCAWhitening.fit(training_vectors(9)).apply(np.zeros((2, 11), np.float32))


@pytest.mark.parametrize(("mean", "projection"), [((3,), (2, 4)), ((3, 1), (2, 3)), ((3,), (0, 3)), ((0,), (2, 0))])
def test_arrays_that_do_not_match_are_rejected(mean: tuple[int, ...], projection: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"expected \(C,\) and \(D, C\)"):
        PCAWhitening(np.zeros(mean, np.float32), np.zeros(projection, np.float32))


def test_files_that_are_not_a_whitening_are_rejected(tmp_path: Path) -> None:
    text, pickled, other, misfit = (tmp_path / name for name in ("text", "pickled.npz", "other.npz", "misfit.npz"))
    text.write_text("no whitening")
    np.savez(pickled, mean=np.array([{"a": 1}], dtype=object), directions=np.eye(1), scales=np.ones(1))
    np.savez(other, something=np.zeros(3))
    np.savez(misfit, mean=np.zeros(3), directions=np.eye(3), scales=np.ones(2))
    np.save(tmp_path / "array.npy", np.zeros(3))
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(misfit.read_bytes()[:100])
    for path in (text, pickled, other, misfit, truncated, tmp_path / "array.npy", tmp_path / "missing.npz"):
        with pytest.raises(InvalidInput, match=path.name):
            PCAWhitening.load(path)
