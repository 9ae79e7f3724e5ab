"""Segments: the terms of up to 65,536 documents inverted into posting lists, which are scanned exactly."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.schema.vectors import VectorType
from deepterms.terms import TermFrequencies

__all__ = ["SEGMENT_DOCUMENTS", "Mutex", "OpenSegment", "Segment"]

_NO_METADATA: Mapping[str, Any] = {}

# Document numbers fit into 16 bits, and a segment's scores stay in the CPU cache while its lists are scanned.
SEGMENT_DOCUMENTS = 65_536
# For larger vocabularies, codewords in use are found by sorting instead of a table of all codewords, to save memory.
MAX_TABLE = 2**22


@dataclass(eq=False)
class Segment:
    """Documents and their posting lists; immutable except for the metadata and for which documents are live.

    Attributes:
        ids: ids of the n documents.
        metadata: metadata of the n documents.
        vectors: float32 (n, D), L2-normalised, a row of NaN for a document without a vector; None if the index stores
            no vectors.
        codewords: int32 (L,), ascending: the codewords in use, as a vocabulary may be far larger than a segment.
        starts: int64 (L + 1,): the list of ``codewords[i]`` is ``[starts[i], starts[i + 1])`` of the two arrays below.
        documents: uint16 (postings,): document numbers, ascending within a list.
        frequencies: uint16 (postings,): term frequencies.
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
        """Invert the term frequencies (n, V) of a segment's documents, given in one or more pieces."""
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

    def score(self, components: NDArray[np.int32], weights: NDArray[np.int32]) -> NDArray[np.int64]:
        """Compute the dot products of a query with all n documents, including deleted ones: int64 (n,)."""
        scores = np.zeros(len(self.ids), dtype=np.int64)
        lists = np.searchsorted(self.codewords, components)
        occurs = np.take(self.codewords, lists, mode="clip") == components
        lists, weights = lists[occurs], weights[occurs]
        for start, stop, weight in zip(
            self.starts[lists].tolist(), self.starts[lists + 1].tolist(), weights.tolist(), strict=True
        ):
            # A list holds a document at most once, so fancy indexing adds every posting.
            scores[self.documents[start:stop]] += self.frequencies[start:stop] * np.int64(weight)
        return scores

    def get_vector(self, row: int) -> NDArray[np.float32] | None:
        """Return the vector (D,) of one document; None if it has none, which is stored as NaN."""
        if self.vectors is None or np.isnan(self.vectors[row, 0]):
            return None
        vector: NDArray[np.float32] = self.vectors[row]
        return vector

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        arrays = (self.vectors, self.codewords, self.starts, self.documents, self.frequencies, self.live)
        return sum(array.nbytes for array in arrays if array is not None)

    def list_lengths(self) -> NDArray[np.int64]:
        """Count the live documents in the list of each of `codewords`: int64 (L,)."""
        before = np.concatenate([[0], np.cumsum(self.live[self.documents], dtype=np.int64)])
        lengths: NDArray[np.int64] = np.diff(before[self.starts])
        return lengths

    def get_terms(self, row: int) -> TermFrequencies:
        """Return the term frequencies (1, V) of one document, by scanning every list."""
        (places,) = np.nonzero(self.documents == row)
        components = self.codewords[np.searchsorted(self.starts, places, side="right") - 1]
        arrays = (self.frequencies[places].astype(np.int32), components, np.array([0, len(places)]))
        return TermFrequencies(sparse.csr_array(arrays, shape=(1, self.vocabulary_size)))


class Mutex:
    """A lock that can be copied and pickled with its owner; the copy is a new, open lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Mutex], tuple[()]]:
        return Mutex, ()


class OpenSegment:
    """A segment that grows until it is full: documents are kept as given and inverted when a search needs them.

    Threads may read and write it at the same time. A reader waits while another inverts the same documents, but never
    for a writer, which only appends to lists.
    """

    def __init__(self, vectors: VectorType | None) -> None:
        self._ids: list[str] = []
        self._metadata: list[Mapping[str, Any]] = []
        self._vectors: list[NDArray[np.float32]] | None = [] if vectors else None
        self._terms: list[TermFrequencies] = []
        self._segment: Segment | None = None
        self._writing, self._building = Mutex(), Mutex()
        self.live: NDArray[np.bool_] = np.zeros(SEGMENT_DOCUMENTS, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    def append(
        self,
        ids: list[str],
        vectors: NDArray[np.float32],
        metadata: list[dict[str, Any]],
        terms: TermFrequencies,
    ) -> None:
        """Append documents: ids, vectors (n, D), metadata and terms (n, V)."""
        with self._writing:
            self._ids += ids
            self._metadata += [given or _NO_METADATA for given in metadata]
            self._terms.append(terms)
            if self._vectors is not None:
                self._vectors.append(vectors)
            self.live[len(self._ids) - len(ids) : len(self._ids)] = True

    def replace_metadata(self, row: int, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of one document."""
        with self._writing:
            self._metadata[row] = metadata
            if self._segment is not None and row < len(self._segment.ids):
                self._segment.metadata[row] = metadata

    def build(self, live: NDArray[np.bool_] | None = None) -> Segment:
        """Invert all documents so far into a segment.

        Args:
            live: bool (at least n,), which of them count; by default those that are live now.
        """
        wanted = len(self._ids)
        with self._building:
            if self._segment is None or len(self._segment.ids) < wanted:
                with self._writing:
                    ids, metadata, terms = self._ids.copy(), self._metadata.copy(), self._terms.copy()
                    vectors = None if self._vectors is None else self._vectors.copy()
                joined = None if vectors is None else np.concatenate(vectors)
                merged = TermFrequencies(sparse.vstack([piece.matrix for piece in terms], format="csr"))
                built = Segment.build(ids, metadata, joined, [merged], self.live[: len(ids)])
                with self._writing:
                    built.metadata[:] = self._metadata[: len(ids)]  # some may have been replaced meanwhile
                    self._segment = built
                    self._terms[: len(terms)] = [merged]  # so that the next time has fewer pieces to join
                    if self._vectors is not None and joined is not None and vectors is not None:
                        self._vectors[: len(vectors)] = [joined]
                    if len(ids) == SEGMENT_DOCUMENTS:
                        self._terms, self._vectors = [], None  # it will not be built again
            found = self._segment
        return replace(found, live=(self.live if live is None else live)[: len(found.ids)])
