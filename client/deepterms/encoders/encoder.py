"""What every encoder is: a fixed rule from descriptors to term frequencies; and the checks on its input."""

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
