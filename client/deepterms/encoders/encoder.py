"""What every encoder is: a fixed rule from descriptors to term frequencies; and the checks on its input."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput
from deepterms.terms import TermFrequencies

__all__ = [
    "AsymmetricEncoder",
    "Encoder",
    "WideningEncoder",
    "as_features",
    "one_feature",
    "refuse_unusable",
    "unusable_rows",
    "usable_features",
]


@runtime_checkable
class Encoder(Protocol):
    """A rule from features to term frequencies. Equal specs give equal term frequencies, bit for bit."""

    @property
    def dimensions(self) -> int:
        """D, the length of a feature."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """V, the number of codewords."""
        ...

    @property
    def max_term_frequency(self) -> int:
        """The largest term frequency that a document can have: 1 for binary encoders."""
        ...

    @property
    def max_words(self) -> int:
        """How many words a document's surrogate text can have: the largest sum of its term frequencies."""
        ...

    def encode(self, features: ArrayLike) -> TermFrequencies:
        """Term frequencies (N, V) of documents with features float32 (N, D)."""
        ...

    def encode_queries(self, features: ArrayLike) -> TermFrequencies:
        """Term frequencies (N, V) of queries; the same as `encode` for symmetric encoders."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder."""
        ...


@runtime_checkable
class AsymmetricEncoder(Encoder, Protocol):
    """An encoder whose queries name another number of codewords than documents."""

    @property
    def words_per_document(self) -> int:
        """How many codewords a document has."""
        ...

    @property
    def words_per_query(self) -> int:
        """How many codewords a query names."""
        ...


@runtime_checkable
class WideningEncoder(AsymmetricEncoder, Protocol):
    """An encoder whose queries can name more codewords than usual."""

    def encode_wider_queries(self, features: ArrayLike, *, words_per_query: int) -> TermFrequencies:
        """Term frequencies (N, V) of queries that name another number of codewords, or a few less, up to V."""
        ...


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


def unusable_rows(features: NDArray[np.float32]) -> dict[int, str]:
    """Rows of (N, D) that no encoder accepts, each with the reason: not finite, or all zero."""
    finite = np.isfinite(features).all(axis=1)
    zero = ~features.any(axis=1)
    reasons = {int(row): "the feature has a NaN or infinite component (float32)" for row in np.flatnonzero(~finite)}
    reasons |= {int(row): "the feature is all zero, so it has no direction" for row in np.flatnonzero(zero & finite)}
    return reasons


def refuse_unusable(features: NDArray[np.float32]) -> None:
    """Raise InvalidInput if any row of (N, D) is unusable."""
    reasons = unusable_rows(features)
    if reasons:
        row, reason = min(reasons.items())
        raise InvalidInput(f"{len(reasons)} of {len(features)} features cannot be encoded; first, row {row}: {reason}")


def usable_features(features: ArrayLike, *, dimensions: int) -> NDArray[np.float32]:
    """`as_features` of which every row can be encoded.

    Raises:
        InvalidInput: as `as_features`, or a row that is not finite or all zero.
    """
    array = as_features(features, dimensions=dimensions)
    refuse_unusable(array)
    return array


def one_feature(feature: ArrayLike, *, dimensions: int) -> NDArray[np.float32]:
    """One feature as (1, D).

    Raises:
        InvalidInput: as `as_features`, or several rows.
    """
    query = as_features(feature, dimensions=dimensions)
    if len(query) != 1:
        raise InvalidInput(f"one feature is expected here; got {len(query)}. search_many takes several")
    return query
