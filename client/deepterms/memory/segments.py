"""Posting lists of up to 65,536 documents: term frequencies by codeword, scanned exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.schema.vectors import VectorType
from deepterms.terms import TermFrequencies

__all__ = ["SEGMENT_DOCUMENTS", "OpenSegment", "Segment"]

_NO_METADATA: Mapping[str, Any] = {}

# A document's number then fits 16 bits, and a segment's scores stay in the cache while its lists are scanned.
SEGMENT_DOCUMENTS = 65_536
# Of a larger vocabulary, the codewords that occur are found by sorting, not by a table with a place for each.
MAX_TABLE = 2**22


@dataclass(eq=False)
class Segment:
    """Documents and their posting lists; only which of them are live ever changes.

    Attributes:
        ids: of the n documents.
        metadata: of the n documents.
        vectors: float32 (n, D), L2-normalised, a row of NaN for a document without; None if the index stores none.
        codewords: int32 (L,), ascending: those that occur, for vocabularies may be far larger than a segment.
        starts: int64 (L + 1,): the list of ``codewords[i]`` is ``[starts[i], starts[i + 1])`` of the two arrays below.
        documents: uint16 (postings,): numbers of documents, ascending within a list.
        frequencies: uint16 (postings,): their term frequencies.
        live: bool (n,): False once deleted or replaced.
        vocabulary_size: V.
    """

    ids: list[str]
    metadata: list[Mapping[str, Any]]
    vectors: NDArray[np.float32] | None
    codewords: NDArray[np.int32]
    starts: NDArray[np.int64]
    documents: NDArray[np.uint16]
    frequencies: NDArray[np.uint16]
    live: NDArray[np.bool_]
    vocabulary_size: int

    @classmethod
    def build(
        cls,
        ids: list[str],
        metadata: list[Mapping[str, Any]],
        vectors: NDArray[np.float32] | None,
        terms: Sequence[TermFrequencies],
        live: NDArray[np.bool_],
    ) -> Segment:
        """Invert the term frequencies (n, V) of a segment's documents, given in one piece or more."""
        rows = sparse.vstack([piece.matrix for piece in terms], format="csr")
        n, V = rows.shape
        if V <= MAX_TABLE:
            occurs = np.bincount(rows.indices, minlength=V) > 0
            codewords, numbers = np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[rows.indices]
        else:
            codewords, numbers = np.unique(rows.indices, return_inverse=True)
        columns = sparse.csr_array((rows.data, numbers, rows.indptr), shape=(n, len(codewords))).tocsc()
        return cls(
            ids,
            metadata,
            vectors,
            codewords.astype(np.int32),
            columns.indptr.astype(np.int64),
            columns.indices.astype(np.uint16),
            columns.data.astype(np.uint16),
            live,
            V,
        )

    def scores(self, components: NDArray[np.int32], weights: NDArray[np.int32]) -> NDArray[np.int64]:
        """Dot products of a query with all n documents, deleted ones too: int64 (n,)."""
        scores = np.zeros(len(self.ids), dtype=np.int64)
        lists = np.searchsorted(self.codewords, components)
        occurs = np.take(self.codewords, lists, mode="clip") == components
        lists, weights = lists[occurs], weights[occurs]
        for start, stop, weight in zip(
            self.starts[lists].tolist(), self.starts[lists + 1].tolist(), weights.tolist(), strict=True
        ):
            # A document stands in a list once, so this adds each posting.
            scores[self.documents[start:stop]] += self.frequencies[start:stop] * np.int64(weight)
        return scores

    def vector_of(self, row: int) -> NDArray[np.float32] | None:
        """The vector (D,) of one document; None if it has none, which NaN stands for."""
        if self.vectors is None or np.isnan(self.vectors[row, 0]):
            return None
        vector: NDArray[np.float32] = self.vectors[row]
        return vector

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.vectors, self.codewords, self.starts, self.documents, self.frequencies, self.live)
        return sum(array.nbytes for array in arrays if array is not None)

    def list_lengths(self) -> NDArray[np.int64]:
        """How many live documents each of `codewords` has: int64 (L,)."""
        before = np.concatenate([[0], np.cumsum(self.live[self.documents], dtype=np.int64)])
        lengths: NDArray[np.int64] = np.diff(before[self.starts])
        return lengths

    def terms_of(self, row: int) -> TermFrequencies:
        """The term frequencies (1, V) of one document, found by reading every list."""
        (places,) = np.nonzero(self.documents == row)
        components = self.codewords[np.searchsorted(self.starts, places, side="right") - 1]
        arrays = (self.frequencies[places].astype(np.int32), components, np.array([0, len(places)]))
        return TermFrequencies(sparse.csr_array(arrays, shape=(1, self.vocabulary_size)))


class OpenSegment:
    """Documents that are still few: kept as given, inverted when a search asks, until a segment is full."""

    def __init__(self, vectors: VectorType | None) -> None:
        self._ids: list[str] = []
        self._metadata: list[Mapping[str, Any]] = []
        self._vectors: list[NDArray[np.float32]] | None = [] if vectors else None
        self._terms: list[TermFrequencies] = []
        self._segment: Segment | None = None
        self.live: NDArray[np.bool_] = np.ones(SEGMENT_DOCUMENTS, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    def append(
        self,
        ids: list[str],
        vectors: NDArray[np.float32],
        metadata: list[dict[str, Any]],
        terms: TermFrequencies,
    ) -> None:
        """Add documents: their ids, vectors (n, D), metadata and terms (n, V)."""
        self._segment = None
        self._ids += ids
        self._metadata += [given or _NO_METADATA for given in metadata]
        self._terms.append(terms)
        if self._vectors is not None:
            self._vectors.append(vectors)

    def segment(self) -> Segment:
        """All documents so far, inverted."""
        if self._segment is None:
            vectors = None if self._vectors is None else np.concatenate(self._vectors)
            if self._vectors is not None and vectors is not None:
                self._vectors = [vectors]
            # The slice is a view: a later deletion shows in the segment as well.
            live = self.live[: len(self._ids)]
            self._segment = Segment.build(self._ids, self._metadata, vectors, self._terms, live)
        return self._segment
