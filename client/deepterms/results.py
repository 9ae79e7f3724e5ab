"""Results: the values that searches, reads and writes return."""

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
    """One document found by a search.

    Attributes:
        id: id of the document.
        score: after re-ranking, the cosine with the query, −1 to 1; otherwise the dot product of term frequencies.
        metadata: metadata of the document, or the fields of it that were requested.
    """

    id: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The hits of one query, best first; a sequence of `Hit`.

    Attributes:
        hits: the hits, best first.
        took_ms: time that the engine reports for the search, in milliseconds; 0 in a `MemoryIndex`.
        partial: whether a shard failed or timed out, so that hits may be missing. Scores are correct in any case.
        error: why this query of `search_many` failed; such a query has no hits and is partial. Empty on success.
        terms: term frequencies of the query as searched, (1, V); None if all documents of a filter were compared
            exactly instead.
        recall: the share of the ten nearest documents that searches like this one were measured to find
            (`SurrogateIndex.tune`); 1 if all documents were compared; None if nothing was measured, or `rerank` or
            `effort` was given.
    """

    hits: tuple[Hit, ...]
    took_ms: float = 0.0
    partial: bool = False
    error: str = ""
    terms: TermFrequencies | None = field(default=None, repr=False, compare=False)
    recall: float | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, position: int | slice) -> Hit | tuple[Hit, ...]:
        """Return the hit at a position, or a tuple of hits for a slice."""
        return self.hits[position]

    @property
    def ids(self) -> list[str]:
        """The ids of the hits, best first."""
        return [hit.id for hit in self.hits]


@dataclass(frozen=True)
class Revision:
    """The version of a document, which changes with every write; for optimistic concurrency control.

    Attributes:
        seq_no: sequence number of the last write in its shard.
        primary_term: term of the primary shard at that write, which grows with each new primary.
        index: uuid of the concrete index, whose sequence numbers these are; empty if unknown.
    """

    seq_no: int
    primary_term: int
    index: str = ""


@dataclass(frozen=True)
class StoredDocument:
    """One document as stored in an index.

    Attributes:
        id: id of the document.
        terms: term frequencies by codeword, ``{"t17": 42, …}``.
        vector: float32 (D,), L2-normalised; None if the index stores no vector for it.
        metadata: metadata of the document.
        revision: version of the document, to pass to `SurrogateIndex.add`; None in a `MemoryIndex`.
    """

    id: str
    terms: Mapping[str, int]
    vector: NDArray[np.float32] | None
    metadata: Mapping[str, Any]
    revision: Revision | None = None


@dataclass(frozen=True)
class Failure:
    """One document that a write did not apply to, and why.

    Attributes:
        id: id of the document.
        reason: what was wrong and, where possible, what to do.
    """

    id: str
    reason: str


@dataclass(frozen=True)
class WriteReport:
    """The outcome of a write, by document; reports can be summed with ``+``.

    Attributes:
        succeeded: number of documents added, updated or deleted as requested.
        failed: every other document, with the reason.
        skipped: number of succeeded documents that were not sent, because a checkpoint records that an earlier call
            wrote them.
        lost: number of documents that the cluster acknowledged but may no longer hold, because somebody deleted the
            index and created it again during the call. They do not count as succeeded; add them again.
    """

    succeeded: int
    failed: tuple[Failure, ...] = ()
    skipped: int = field(default=0, repr=False)
    lost: int = field(default=0, repr=False)

    def __add__(self, other: WriteReport) -> WriteReport:
        """Sum two reports."""
        return WriteReport(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.lost + other.lost,
        )


@dataclass(frozen=True)
class PostingList:
    """The posting list of one codeword.

    Attributes:
        codeword: the codeword, such as ``t17``.
        share: share of all documents that have the codeword, 0 to 1.
    """

    codeword: str
    share: float


@dataclass(frozen=True)
class IndexStats:
    """The size of an index, and the work of a search in it.

    Attributes:
        documents: number of documents visible to search.
        bytes: size on disk without replicas; for a `MemoryIndex`, size of its arrays.
        segments: number of segments without replicas.
        engine: name and version of the engine; ``memory`` for a `MemoryIndex`.
        sampled: number of documents that the figures below are estimated from; they are exact if it is all of them.
        terms_per_document: mean number of codewords per document.
        longest_lists: the longest posting lists, at most ten, longest first.
        list_variation: coefficient of variation of the lengths of all V posting lists: standard deviation divided by
            mean; 0 if all have the same length.
        postings_per_query: mean number of postings that a query distributed like the documents reads, if the engine
            skips none. If queries have other codewords than documents, this is measured with stored vectors; without
            them, a query's lists are assumed to be as long as those of documents, which overestimates up to threefold.
        query_ms: the engine's mean time per query and shard so far, in milliseconds; None before the first query.
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
