"""Inputs: from whatever a caller passes as features to float32 rows that an encoder accepts, or a clear error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features, as_array
from deepterms.errors import InvalidInput

__all__ = [
    "as_features",
    "as_one_feature",
    "check_features",
    "find_unusable_rows",
    "normalise_rows",
    "reject_unusable",
]


def as_features(features: Features, *, dimensions: int) -> NDArray[np.float32]:
    """View features as float32 (N, D); a single feature (D,) becomes (1, D).

    Encoders work on float32, so that a float64 input and the float32 vector stored for it give the same term
    frequencies.

    Raises:
        InvalidInput: as for `as_array`, or they do not have D columns.
    """
    given = as_array(features)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is rejected row by row
        array = np.ascontiguousarray(given, dtype=np.float32)  # (1,) if it has no dimension
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise InvalidInput(
            f"features have shape {given.shape}; expected (N, {dimensions}), because the encoder was created "
            f"with dimensions={dimensions}"
        )
    return array


def find_unusable_rows(features: NDArray[np.float32]) -> dict[int, str]:
    """Find the rows of (N, D) that no encoder accepts, because they are not finite or all zero.

    Returns:
        Row number → reason.
    """
    finite = np.isfinite(features).all(axis=1)
    zero = ~features.any(axis=1)
    if finite.all() and not zero.any():
        return {}
    reasons = {int(row): "the feature has a NaN or infinite component (float32)" for row in np.flatnonzero(~finite)}
    reasons |= {int(row): "the feature is all zero, so it has no direction" for row in np.flatnonzero(zero & finite)}
    return reasons


def reject_unusable(features: NDArray[np.float32]) -> None:
    """Raise InvalidInput if any row of (N, D) is unusable."""
    reasons = find_unusable_rows(features)
    if reasons:
        row, reason = min(reasons.items())
        raise InvalidInput(f"{len(reasons)} of {len(features)} features cannot be encoded; first, row {row}: {reason}")


def check_features(features: Features, *, dimensions: int) -> NDArray[np.float32]:
    """Return features as `as_features` does, after checking that every row can be encoded.

    Raises:
        InvalidInput: as for `as_features`, or a row is not finite or all zero.
    """
    array = as_features(features, dimensions=dimensions)
    reject_unusable(array)
    return array


def as_one_feature(feature: Features, *, dimensions: int) -> NDArray[np.float32]:
    """View one feature as float32 (1, D).

    Raises:
        InvalidInput: as for `as_features`, there are several rows, or the row is not finite or all zero.
    """
    query = as_features(feature, dimensions=dimensions)
    if len(query) != 1:
        raise InvalidInput(f"expected one feature; got {len(query)}. Use search_many for several")
    reject_unusable(query)  # a search that compares all documents never encodes it
    return query


def normalise_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the rows of float32 (N, D) to L2 norm 1; norms are float64, so that very large rows do not overflow."""
    norms: NDArray[np.float64] = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    scaled: NDArray[np.float32] = (features / norms[:, np.newaxis]).astype(np.float32)
    return scaled
