"""Inputs: whatever a caller passes as features becomes float32 rows that an encoder accepts, or a clear error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = [
    "as_features",
    "as_one_feature",
    "check_features",
    "find_unusable_rows",
    "normalise_rows",
    "reject_unusable",
]


def as_features(features: ArrayLike, *, dimensions: int) -> NDArray[np.float32]:
    """View features as float32 (N, D); one feature (D,) becomes (1, D).

    Encoders work on float32, so that a float64 input and the float32 that is stored give the same term frequencies.

    Raises:
        InvalidInput: not numbers, or not of D columns.
    """
    try:
        array = np.asarray(features)
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused by row
            array = np.ascontiguousarray(array, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"features must be numbers in an array (N, {dimensions}); got {type(features).__name__}: {error}"
        ) from error
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise InvalidInput(
            f"features have shape {np.shape(features)}; expected (N, {dimensions}), as the encoder was made for "
            f"dimensions={dimensions}"
        )
    return array


def find_unusable_rows(features: NDArray[np.float32]) -> dict[int, str]:
    """Rows of (N, D) that no encoder accepts, each with the reason: not finite, or all zero."""
    finite = np.isfinite(features).all(axis=1)
    zero = ~features.any(axis=1)
    reasons = {int(row): "the feature has a NaN or infinite component (float32)" for row in np.flatnonzero(~finite)}
    reasons |= {int(row): "the feature is all zero, so it has no direction" for row in np.flatnonzero(zero & finite)}
    return reasons


def reject_unusable(features: NDArray[np.float32]) -> None:
    """Raise InvalidInput if any row of (N, D) is unusable."""
    reasons = find_unusable_rows(features)
    if reasons:
        row, reason = min(reasons.items())
        raise InvalidInput(f"{len(reasons)} of {len(features)} features cannot be encoded; first, row {row}: {reason}")


def check_features(features: ArrayLike, *, dimensions: int) -> NDArray[np.float32]:
    """`as_features` of which every row can be encoded.

    Raises:
        InvalidInput: as `as_features`, or a row that is not finite or all zero.
    """
    array = as_features(features, dimensions=dimensions)
    reject_unusable(array)
    return array


def as_one_feature(feature: ArrayLike, *, dimensions: int) -> NDArray[np.float32]:
    """One feature as (1, D).

    Raises:
        InvalidInput: as `as_features`, or several rows.
    """
    query = as_features(feature, dimensions=dimensions)
    if len(query) != 1:
        raise InvalidInput(f"one feature is expected here; got {len(query)}. search_many takes several")
    return query


def normalise_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of float32 (N, D) scaled to L2 norm 1; the norm is taken in float64, so that huge rows do not overflow."""
    norms: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    scaled: NDArray[np.float32] = (features / norms[:, np.newaxis]).astype(np.float32)
    return scaled
