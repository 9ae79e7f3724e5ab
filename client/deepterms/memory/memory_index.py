"""MemoryIndex: an exact scan of posting lists in this process, the reference that every engine must equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, as_one_feature, normalise_rows
from deepterms.encoders.presets import PresetName, select_encoder
from deepterms.errors import InvalidInput
from deepterms.inspection.explanation import Explanation, explain
from deepterms.inspection.reconciliation import Reconciliation, reconcile_with
from deepterms.inspection.statistics import QUERIES, counts_of, stats_of_counts
from deepterms.memory.candidates import accepted, best, by_agreement, by_cosine, every, in_order
from deepterms.memory.filters import compile_filter
from deepterms.memory.segments import SEGMENT_DOCUMENTS, OpenSegment, Segment
from deepterms.results import Failure, Hit, Hits, IndexStats, StoredDocument, WriteReport
from deepterms.schema.documents import Batch, check_batch, select_usable_documents
from deepterms.schema.index_spec import check_rerank, choose_default_rerank
from deepterms.schema.sketches import count_survivors, wants_sketch
from deepterms.schema.vectors import StoreVectors, parse_vector_type, quantise_and_restore
from deepterms.search.options import SearchKeywords, SearchOptions, check_effort, chosen_fields
from deepterms.search.request import above
from deepterms.search.widening import USUAL, breadth_of, query_terms, widens
from deepterms.terms import TermFrequencies

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MemoryIndex"]


class MemoryIndex:
    """The same methods as `SurrogateIndex`, without a server.

    Without re-ranking scores are exact integers. Hits are ordered by score descending, then by id ascending; an engine
    orders equal scores by its own document numbers, so ids may differ from an engine's only among equal scores.

    Args:
        encoder: for documents and queries; ``auto``, `features`, `documents`, `preset` and `rerank` as in
            `SurrogateIndex.create`.
        store_vectors: keep the descriptors (4·D bytes a document) for exact re-ranking; ``"int8"`` keeps what an
            int8 index has left of them, in float32.
        sketch: compare most candidates by the signs of their vectors only, as in `SurrogateIndex.create`.
    """

    def __init__(
        self,
        encoder: Encoder | Literal["auto"],
        *,
        store_vectors: StoreVectors = True,
        features: ArrayLike | None = None,
        documents: int | None = None,
        preset: PresetName = "balanced",
        rerank: int | None = None,
        sketch: bool | None = None,
    ) -> None:
        chosen = select_encoder(encoder, features=features, documents=documents, preset=preset)
        rerank = chosen.rerank if rerank is None else rerank
        self.encoder: Encoder = chosen.encoder
        self.rerank = choose_default_rerank(self.encoder) if rerank is None else check_rerank(rerank)
        self.vector_type = parse_vector_type(store_vectors)
        self.sketch = wants_sketch(
            sketch,
            dimensions=self.encoder.dimensions,
            stores_vectors=self.vector_type is not None,
            rerank=self.rerank,
        )
        self._segments: list[Segment] = []
        self._open = OpenSegment(self.vector_type)
        self._places: dict[str, int] = {}  # id → segment number · SEGMENT_DOCUMENTS + row

    @property
    def stores_vectors(self) -> bool:
        """Whether descriptors are kept."""
        return self.vector_type is not None

    def __repr__(self) -> str:
        return f"MemoryIndex({self.encoder}, {self.count()} documents)"

    def add(
        self, ids: Sequence[str], features: ArrayLike, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> WriteReport:
        """Index documents; one whose id is there already is replaced. As `SurrogateIndex.add`."""
        return self._add(check_batch(ids, features, metadata, encoder=self.encoder))

    def add_terms(
        self, ids: Sequence[str], terms: TermFrequencies, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> WriteReport:
        """`add` for term frequencies that were made elsewhere. As `SurrogateIndex.add_terms`."""
        return self._add(check_batch(ids, terms, metadata, encoder=self.encoder))

    def _add(self, batch: Batch) -> WriteReport:
        self._forget(batch.ids)
        for start in range(0, len(batch.ids), SEGMENT_DOCUMENTS):
            piece = slice(start, start + SEGMENT_DOCUMENTS)
            self._append(batch.ids[piece], batch.content[piece], batch.metadata[piece])
        return WriteReport(len(batch.ids), batch.failed)

    def search(self, feature: ArrayLike, **options: Unpack[SearchKeywords]) -> Hits:
        """The documents nearest to a descriptor. As `SurrogateIndex.search`; for filters see `compile_filter`."""
        asked = SearchOptions(**options)
        return self._search(self._one(feature), asked)

    def search_many(self, features: ArrayLike, **options: Unpack[SearchKeywords]) -> list[Hits]:
        """`search` for each of (N, D). As `SurrogateIndex.search_many`."""
        asked = SearchOptions(**options)
        array = as_features(features, dimensions=self.encoder.dimensions)
        found = []
        for row in range(len(array)):
            query = array[row : row + 1]
            try:
                found.append(self._search(query, asked))
            except InvalidInput as error:
                found.append(Hits((), partial=True, error=str(error)))
        return found

    def search_all(
        self,
        feature: ArrayLike,
        *,
        filter: Mapping[str, Any] | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
    ) -> Iterator[Hit]:
        """Every document that shares a codeword with a descriptor. As `SurrogateIndex.search_all`."""
        k = max(1, self.count())
        return iter(
            self.search(feature, k=k, filter=filter, rerank=0, effort=effort, min_score=min_score, fields=fields)
        )

    def search_by_id(self, id: str, **options: Unpack[SearchKeywords]) -> Hits:
        """The documents nearest to one in the index, without that one. As `SurrogateIndex.search_by_id`."""
        asked = SearchOptions(**options)
        more = replace(asked, k=asked.k + 1)  # the document itself is among the hits
        segment, row = self._known(id)
        if asked.rerank_from is not None:
            hits = self._search(self._one(asked.rerank_from.features_of([id])), more)
        else:
            vector = segment.vector_of(row)
            hits = self._search(segment.terms_of(row) if vector is None else vector[np.newaxis], more)
        return replace(hits, hits=tuple(hit for hit in hits if hit.id != id)[: asked.k])

    def explain(self, id: str, feature: ArrayLike, *, effort: float = 1.0) -> Explanation:
        """Which codewords a document shares with a descriptor. As `SurrogateIndex.explain`."""
        check_effort(effort)
        segment, row = self._known(id)
        asked = query_terms(self.encoder, self._one(feature), effort=effort)
        ((components, weights),) = asked.rows()
        score = float(segment.scores(components, weights)[row])
        return explain(id, query=asked, document=segment.terms_of(row), engine_score=score)

    def get(self, id: str) -> StoredDocument | None:
        """One document as the index holds it, or None."""
        place = self._places.get(id)
        if place is None:
            return None
        segment, row = self._at(place)
        (terms,) = segment.terms_of(row).to_terms()
        return StoredDocument(id=id, terms=terms, vector=segment.vector_of(row), metadata=segment.metadata[row])

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> WriteReport:
        """Replace the metadata of documents. As `SurrogateIndex.update_metadata`."""
        if isinstance(ids, str) or len(metadata) != len(ids):
            raise InvalidInput("ids and metadata are two sequences, aligned by position")
        kept, usable, failed = select_usable_documents(ids, metadata)
        report = WriteReport(0, failed)
        for row, changed in zip(kept, usable, strict=True):
            place = self._places.get(ids[row])
            if place is None:
                report += WriteReport(0, (Failure(ids[row], "no such document in this index"),))
            else:
                segment, at = self._at(place)
                segment.metadata[at] = changed
                report += WriteReport(1)
        return report

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """Delete documents. One that is not there counts as deleted."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
        self._forget(ids)
        return WriteReport(len(ids))

    def delete_by_filter(self, filter: Mapping[str, Any]) -> WriteReport:
        """Delete the documents that match a filter. As `SurrogateIndex.delete_by_filter`."""
        accepts = compile_filter(filter)
        return self.delete(
            [
                identifier
                for segment in self._all_segments()
                for identifier, matches in zip(segment.ids, accepted(segment, accepts), strict=True)
                if matches
            ]
        )

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents there are, in all or of those that match a filter."""
        if filter is None:
            return len(self._places)
        accepts = compile_filter(filter)
        return sum(int(accepted(segment, accepts).sum()) for segment in self._all_segments())

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
        codewords = np.concatenate([np.empty(0, np.int32), *(segment.codewords for segment in segments)])
        lengths = np.concatenate([np.empty(0, np.int64), *(segment.list_lengths() for segment in segments)])
        return stats_of_counts(
            *counts_of(codewords, lengths),
            encoder=self.encoder,
            sampled=len(self._places),
            documents=len(self._places),
            size=sum(segment.nbytes for segment in segments),
            segments=len(segments),
            engine="memory",
            vectors=self._some_vectors(QUERIES),
        )

    def refresh(self) -> None:
        """Nothing to do: what is added is found at once."""

    def _append(
        self, ids: list[str], content: NDArray[np.float32] | TermFrequencies, metadata: list[dict[str, Any]]
    ) -> None:
        """Add documents that are new and at most a segment."""
        if len(self._open) + len(ids) > SEGMENT_DOCUMENTS:
            self._segments.append(self._open.segment())
            self._open = OpenSegment(self.vector_type)
        first = len(self._segments) * SEGMENT_DOCUMENTS + len(self._open)
        if isinstance(content, TermFrequencies):
            vectors = np.full((len(ids), self.encoder.dimensions), np.nan, dtype=np.float32)  # NaN: no vector
            self._open.append(ids, vectors, metadata, content)
        else:
            self._open.append(
                ids,
                quantise_and_restore(content, self.vector_type or "float32"),
                metadata,
                self.encoder.encode(content),
            )
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

    def _one(self, feature: ArrayLike) -> NDArray[np.float32]:
        """One feature as (1, D)."""
        return as_one_feature(feature, dimensions=self.encoder.dimensions)

    def _some_vectors(self, count: int) -> NDArray[np.float32]:
        """Vectors of random documents, at most (count, D); the same each time while nothing is written."""
        places = list(self._places.values())
        drawn = np.random.default_rng(0).permutation(len(places))[:count]
        vectors = [segment.vector_of(row) for segment, row in (self._at(places[number]) for number in drawn)]
        kept = [vector for vector in vectors if vector is not None]
        return np.array(kept, dtype=np.float32).reshape(-1, self.encoder.dimensions)

    def _known(self, id: str) -> tuple[Segment, int]:
        place = self._places.get(id)
        if place is None:
            raise InvalidInput(f"no document {id!r} in this index")
        return self._at(place)

    def _search(self, asked: NDArray[np.float32] | TermFrequencies, options: SearchOptions) -> Hits:
        """Search by a feature (1, D), or by terms alone, which leaves re-ranking out."""
        query = None if isinstance(asked, TermFrequencies) else asked
        stored = self.stores_vectors
        window = options.window(stores_vectors=stored, usual=self.rerank) if query is not None else 0
        accepts = None if options.filter is None else compile_filter(options.filter)
        segments = [
            (segment, segment.live if accepts is None else accepted(segment, accepts))
            for segment in self._all_segments()
        ]
        breadth = USUAL
        if accepts is not None and widens(self.encoder, window=window):
            breadth = breadth_of(
                self.encoder,
                kept=sum(int(kept.sum()) for _, kept in segments),
                documents=self.count(),
                window=window,
                effort=options.effort,
                exact=self.stores_vectors and options.rerank_from is None,
                sketch=self.sketch,
            )
        terms: TermFrequencies | None = None
        if breadth.exact:
            candidates = [candidate for segment, kept in segments for candidate in every(segment, kept)]
        else:
            window = breadth.window or window
            terms = query_terms(self.encoder, asked, breadth, effort=options.effort)
            ((components, weights),) = terms.rows()
            candidates = []
            for segment, kept in segments:
                scores = segment.scores(components, weights)
                scores[~kept] = 0
                candidates += best(segment, scores, window or options.k)
            candidates = in_order(candidates)[: window or options.k]
        if window and query is not None:
            unit = normalise_rows(query)[0]
            if self.sketch and options.rerank_from is None and (breadth.sketched or not breadth.exact):
                candidates = by_agreement(candidates, unit, count_survivors(options.k, far=breadth.exact))
            candidates = by_cosine(candidates, unit, options.rerank_from)
        hits = (
            Hit(identifier, -score, chosen_fields(segment.metadata[row], options.fields))
            for score, identifier, segment, row in candidates[: options.k]
        )
        return above(Hits(tuple(hits), terms=terms), options.min_score)
