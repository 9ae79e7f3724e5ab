"""What searching and adding return: hits, stored documents, and the report of an ingest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from deepterms.terms import TermFrequencies

__all__ = [
    "Failure",
    "Hit",
    "Hits",
    "IndexStats",
    "PostingList",
    "Revision",
    "StoredDocument",
    "WriteReport",
]


@dataclass(frozen=True)
class Hit:
    """One document found.

    Attributes:
        id: of the document.
        score: the cosine with the query after re-ranking; without it the dot product of term frequencies.
        metadata: what was stored with the document.
    """

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of one query, best first.

    Attributes:
        took_ms: the engine's own time, in milliseconds.
        partial: True when a shard failed or ran out of time, so that hits may be missing. No score is ever wrong.
        error: why this query of `search_many` has no hits, if it failed; it is partial then. Empty otherwise.
        terms: the codewords of the query with their weights, (1, V), as sent to the engine; None if every document was
            compared exactly, without codewords.
    """

    hits: tuple[Hit, ...]
    took_ms: float = 0.0
    partial: bool = False
    error: str = ""
    terms: TermFrequencies | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, position: int | slice) -> Hit | tuple[Hit, ...]:
        """The hit at a position, or several as a tuple."""
        return self.hits[position]

    @property
    def ids(self) -> list[str]:
        """The ids, best first."""
        return [hit.id for hit in self.hits]


@dataclass(frozen=True)
class Revision:
    """One writing of a document, as the engine counts them; a later one has another.

    Attributes:
        seq_no: the number of the write in its shard.
        primary_term: how often the shard has had a new primary.
    """

    seq_no: int
    primary_term: int


@dataclass(frozen=True)
class StoredDocument:
    """One document as an index holds it.

    Attributes:
        id: of the document.
        terms: its term frequencies, ``{"t17": 42, …}``.
        vector: float32 (D,), L2-normalised; None if the index stores none of it.
        metadata: what was stored with it.
        revision: which writing of it this is; None in a `MemoryIndex`.
    """

    id: str
    terms: Mapping[str, int]
    vector: NDArray[np.float32] | None
    metadata: Mapping[str, Any]
    revision: Revision | None = None


@dataclass(frozen=True)
class Failure:
    """One document that was not indexed, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class WriteReport:
    """What became of the documents given to `add`.

    Attributes:
        succeeded: how many were written (or deleted) as asked.
        failed: every other one.
        skipped: how many of these were not sent, as a checkpoint says that an earlier call had them acknowledged.
    """

    succeeded: int
    failed: tuple[Failure, ...] = ()
    skipped: int = field(default=0, repr=False)

    def __add__(self, other: WriteReport) -> WriteReport:
        """The report of both."""
        return WriteReport(self.succeeded + other.succeeded, self.failed + other.failed, self.skipped + other.skipped)


@dataclass(frozen=True)
class PostingList:
    """The documents of one codeword.

    Attributes:
        codeword: such as ``t17``.
        share: of all documents that have it, 0 to 1.
    """

    codeword: str
    share: float


@dataclass(frozen=True)
class IndexStats:
    """What an index holds, and what a search has to read of it.

    Attributes:
        documents: that are visible to search.
        bytes: on disk, without replicas; of a `MemoryIndex`: of its arrays.
        segments: without those of replicas.
        engine: name and version; ``memory`` for a `MemoryIndex`.
        sampled: how many documents the figures below are drawn from. They are exact if that is all.
        terms_per_document: the mean.
        longest_lists: at most ten, longest first.
        list_variation: standard deviation of all V posting lists' lengths, divided by their mean; 0 if all are equal.
        postings_per_query: how many a query reads that is drawn like the documents, without what the engine skips. Of
            an encoder whose queries name other codewords than documents it is measured with stored vectors; where none
            are stored, lists are taken to be as long there, which is up to three times too much.
        query_ms: the engine's mean time for one shard and query so far, in milliseconds; None before any.
    """

    documents: int
    bytes: int
    segments: int
    engine: str
    sampled: int
    terms_per_document: float
    longest_lists: tuple[PostingList, ...]
    list_variation: float
    postings_per_query: float
    query_ms: float | None = None
