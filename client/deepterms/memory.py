"""MemoryIndex: an exact scan of posting lists in this process, the reference that every engine must equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.documents import Batch, check_batch, normalise_rows, usable_documents
from deepterms.encoders.encoder import Encoder, as_features
from deepterms.errors import InvalidInput
from deepterms.filters import Predicate, compile_filter
from deepterms.postings import SEGMENT_DOCUMENTS, Segment
from deepterms.reconciliation import Reconciliation, reconcile_with
from deepterms.rerank import NO_VECTOR, rerank_window
from deepterms.results import Failure, Hit, Hits, IndexReport, IndexStats, StoredDocument
from deepterms.statistics import stats_of_counts
from deepterms.terms import TermFrequencies

__all__ = ["MemoryIndex"]

_NO_METADATA: Mapping[str, Any] = {}

Candidate = tuple[float, str, Segment, int]  # (minus the score, id, segment, row): sorts best first, equal scores by id


class MemoryIndex:
    """The same methods as `SurrogateIndex`, without a server.

    Without re-ranking scores are exact integers. Hits are ordered by score descending, then by id ascending; an engine
    orders equal scores by its own document numbers, so ids may differ from an engine's only among equal scores.

    Args:
        encoder: for documents and queries.
        store_vectors: keep the descriptors (4·D bytes a document) for exact re-ranking.
    """

    def __init__(self, encoder: Encoder, *, store_vectors: bool = True) -> None:
        self.encoder = encoder
        self.stores_vectors = store_vectors
        self._segments: list[Segment] = []
        self._open = _OpenSegment(store_vectors=store_vectors)
        self._places: dict[str, int] = {}  # id → segment number · SEGMENT_DOCUMENTS + row

    def __repr__(self) -> str:
        return f"MemoryIndex({self.encoder}, {self.count()} documents)"

    def add(
        self, ids: Sequence[str], features: ArrayLike, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> IndexReport:
        """Index documents; one whose id is there already is replaced. As `SurrogateIndex.add`."""
        return self._add(check_batch(ids, features, metadata, encoder=self.encoder))

    def add_terms(
        self, ids: Sequence[str], terms: TermFrequencies, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> IndexReport:
        """`add` for term frequencies that were made elsewhere. As `SurrogateIndex.add_terms`."""
        return self._add(check_batch(ids, terms, metadata, encoder=self.encoder))

    def _add(self, batch: Batch) -> IndexReport:
        self._forget(batch.ids)
        for start in range(0, len(batch.ids), SEGMENT_DOCUMENTS):
            piece = slice(start, start + SEGMENT_DOCUMENTS)
            self._append(batch.ids[piece], batch.content[piece], batch.metadata[piece])
        return IndexReport(len(batch.ids), batch.failed)

    def search(
        self,
        feature: ArrayLike,
        *,
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        rerank: int | None = None,
    ) -> Hits:
        """The documents nearest to a descriptor. As `SurrogateIndex.search`; for filters see `compile_filter`."""
        query = as_features(feature, dimensions=self.encoder.dimensions)
        if len(query) != 1:
            raise InvalidInput(f"search takes one feature; got {len(query)}. Call it for each")
        return self._search(self.encoder.encode_queries(query), query, k=k, filter=filter, rerank=rerank)

    def search_by_id(
        self, id: str, *, k: int = 10, filter: Mapping[str, Any] | None = None, rerank: int | None = None
    ) -> Hits:
        """The documents nearest to one in the index, without that one. As `SurrogateIndex.search_by_id`."""
        place = self._places.get(id)
        if place is None:
            raise InvalidInput(f"no document {id!r} in this index")
        segment, row = self._at(place)
        vector = segment.vector_of(row)
        query = None if vector is None else vector[np.newaxis]
        terms = segment.terms_of(row) if query is None else self.encoder.encode_queries(query)
        hits = self._search(terms, query, k=k + 1, filter=filter, rerank=rerank)
        return Hits(tuple(hit for hit in hits if hit.id != id)[:k])

    def get(self, id: str) -> StoredDocument | None:
        """One document as the index holds it, or None."""
        place = self._places.get(id)
        if place is None:
            return None
        segment, row = self._at(place)
        (terms,) = segment.terms_of(row).to_terms()
        return StoredDocument(id=id, terms=terms, vector=segment.vector_of(row), metadata=segment.metadata[row])

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> IndexReport:
        """Replace the metadata of documents. As `SurrogateIndex.update_metadata`."""
        if isinstance(ids, str) or len(metadata) != len(ids):
            raise InvalidInput("ids and metadata are two sequences, aligned by position")
        kept, usable, failed = usable_documents(ids, metadata)
        report = IndexReport(0, failed)
        for row, changed in zip(kept, usable, strict=True):
            place = self._places.get(ids[row])
            if place is None:
                report += IndexReport(0, (Failure(ids[row], "no such document in this index"),))
            else:
                segment, at = self._at(place)
                segment.metadata[at] = changed
                report += IndexReport(1)
        return report

    def delete(self, ids: Sequence[str]) -> IndexReport:
        """Delete documents. One that is not there counts as deleted."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
        self._forget(ids)
        return IndexReport(len(ids))

    def delete_by_filter(self, filter: Mapping[str, Any]) -> IndexReport:
        """Delete the documents that match a filter. As `SurrogateIndex.delete_by_filter`."""
        accepts = compile_filter(filter)
        return self.delete(
            [
                identifier
                for segment in self._all_segments()
                for identifier, accepted in zip(segment.ids, _accepted(segment, accepts), strict=True)
                if accepted
            ]
        )

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents there are, in all or of those that match a filter."""
        if filter is None:
            return len(self._places)
        accepts = compile_filter(filter)
        return sum(int(_accepted(segment, accepts).sum()) for segment in self._all_segments())

    def reconcile(self, ids: Iterable[str]) -> Reconciliation:
        """Which of the documents that should be here are missing, and which are extra. As `SurrogateIndex`."""
        return reconcile_with(
            ids,
            present=lambda piece: {identifier for identifier in piece if identifier in self._places},
            held=lambda: [list(self._places)],
            count=self.count,
        )

    def stats(self) -> IndexStats:
        """What the index holds, exactly. As `SurrogateIndex.stats`."""
        segments = list(self._all_segments())
        counts = np.zeros(self.encoder.vocabulary_size, dtype=np.int64)
        for segment in segments:
            counts += segment.list_lengths()
        return stats_of_counts(
            counts,
            sampled=len(self._places),
            documents=len(self._places),
            size=sum(segment.nbytes for segment in segments),
            segments=len(segments),
            engine="memory",
        )

    def refresh(self) -> None:
        """Nothing to do: what is added is found at once."""

    def _append(
        self, ids: list[str], content: NDArray[np.float32] | TermFrequencies, metadata: list[dict[str, Any]]
    ) -> None:
        """Add documents that are new and at most a segment."""
        if len(self._open) + len(ids) > SEGMENT_DOCUMENTS:
            self._segments.append(self._open.segment())
            self._open = _OpenSegment(store_vectors=self.stores_vectors)
        first = len(self._segments) * SEGMENT_DOCUMENTS + len(self._open)
        if isinstance(content, TermFrequencies):
            vectors = np.full((len(ids), self.encoder.dimensions), np.nan, dtype=np.float32)  # NaN: no vector
            self._open.append(ids, vectors, metadata, content)
        else:
            self._open.append(ids, normalise_rows(content), metadata, self.encoder.encode(content))
        self._places.update(zip(ids, range(first, first + len(ids)), strict=True))

    def _forget(self, ids: Sequence[str]) -> None:
        for identifier in ids:
            place = self._places.pop(identifier, None)
            if place is not None:
                number, row = divmod(place, SEGMENT_DOCUMENTS)
                live = self._segments[number].live if number < len(self._segments) else self._open.live
                live[row] = False

    def _all_segments(self) -> Iterator[Segment]:
        yield from self._segments
        if len(self._open):
            yield self._open.segment()

    def _at(self, place: int) -> tuple[Segment, int]:
        number, row = divmod(place, SEGMENT_DOCUMENTS)
        return (self._segments[number] if number < len(self._segments) else self._open.segment()), row

    def _search(
        self,
        terms: TermFrequencies,
        query: NDArray[np.float32] | None,
        *,
        k: int,
        filter: Mapping[str, Any] | None,
        rerank: int | None,
    ) -> Hits:
        window = rerank_window(k=k, rerank=rerank, stores_vectors=self.stores_vectors)
        accepts = None if filter is None else compile_filter(filter)
        ((components, weights),) = terms.rows()
        candidates: list[Candidate] = []
        for segment in self._all_segments():
            scores = segment.scores(components, weights)
            scores[~(segment.live if accepts is None else _accepted(segment, accepts))] = 0
            candidates += _best(segment, scores, window or k)
        candidates = sorted(candidates, key=_order)[: window or k]
        if window and query is not None:
            candidates = _by_cosine(candidates, normalise_rows(query)[0])
        return Hits(
            tuple(Hit(identifier, -score, segment.metadata[row]) for score, identifier, segment, row in candidates[:k])
        )


class _OpenSegment:
    """Documents that are still few: kept as given, inverted when a search asks, until a segment is full."""

    def __init__(self, *, store_vectors: bool) -> None:
        self._ids: list[str] = []
        self._metadata: list[Mapping[str, Any]] = []
        self._vectors: list[NDArray[np.float32]] | None = [] if store_vectors else None
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
        self._segment = None
        self._ids += ids
        self._metadata += [given or _NO_METADATA for given in metadata]
        self._terms.append(terms)
        if self._vectors is not None:
            self._vectors.append(vectors)

    def segment(self) -> Segment:
        if self._segment is None:
            vectors = None if self._vectors is None else np.concatenate(self._vectors)
            if self._vectors is not None and vectors is not None:
                self._vectors = [vectors]
            # The slice is a view: a later deletion shows in the segment as well.
            live = self.live[: len(self._ids)]
            self._segment = Segment.build(self._ids, self._metadata, vectors, self._terms, live)
        return self._segment


def _accepted(segment: Segment, accepts: Predicate) -> NDArray[np.bool_]:
    """Which documents are live and match a filter: bool (n,)."""
    return np.fromiter(
        (
            bool(live) and accepts(identifier, metadata)
            for live, identifier, metadata in zip(segment.live, segment.ids, segment.metadata, strict=True)
        ),
        dtype=np.bool_,
        count=len(segment.ids),
    )


def _best(segment: Segment, scores: NDArray[np.int64], count: int) -> list[Candidate]:
    """The best `count` documents with a score, and all that tie with the last of them."""
    (rows,) = np.nonzero(scores)
    if len(rows) > count:
        least = np.partition(scores[rows], len(rows) - count)[len(rows) - count]
        rows = rows[scores[rows] >= least]
    return [(-float(scores[row]), segment.ids[row], segment, row) for row in rows.tolist()]


def _by_cosine(candidates: list[Candidate], query: NDArray[np.float32]) -> list[Candidate]:
    """Candidates in the order of their exact cosine with a normalised query (D,)."""
    reranked: list[Candidate] = []
    for _, identifier, segment, row in candidates:
        vector = segment.vector_of(row)
        cosine = NO_VECTOR if vector is None else float(np.dot(vector, query))
        reranked.append((-cosine, identifier, segment, row))
    return sorted(reranked, key=_order)


def _order(candidate: Candidate) -> tuple[float, str]:
    return candidate[:2]
