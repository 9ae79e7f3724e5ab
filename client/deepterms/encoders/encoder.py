"""Encoder protocols: what every rule from descriptors to term frequencies provides."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike

from deepterms.terms import TermFrequencies

__all__ = ["AsymmetricEncoder", "Encoder", "WideningEncoder"]


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
        """The largest number of words in a document's surrogate text, that is, the sum of its term frequencies."""
        ...

    def encode(self, features: ArrayLike) -> TermFrequencies:
        """Encode documents with features float32 (N, D) as term frequencies (N, V)."""
        ...

    def encode_queries(self, features: ArrayLike) -> TermFrequencies:
        """Encode queries as term frequencies (N, V); the same as `encode` for symmetric encoders."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON from which `encoder_from_spec` rebuilds this encoder."""
        ...


@runtime_checkable
class AsymmetricEncoder(Encoder, Protocol):
    """An encoder whose queries have a different number of codewords than its documents."""

    @property
    def words_per_document(self) -> int:
        """The number of codewords in a document."""
        ...

    @property
    def words_per_query(self) -> int:
        """The number of codewords in a query."""
        ...


@runtime_checkable
class WideningEncoder(AsymmetricEncoder, Protocol):
    """An encoder whose queries can be given more codewords than usual."""

    def encode_wider_queries(self, features: ArrayLike, *, words_per_query: int) -> TermFrequencies:
        """Encode queries with up to `words_per_query` codewords each, at most V, as term frequencies (N, V)."""
        ...
