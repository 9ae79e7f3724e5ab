"""MemoryIndex: documents in this process to exact hits, by scanning posting lists; the reference for engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, as_one_feature, check_features, normalise_rows
from deepterms.errors import InvalidInput
from deepterms.inspection.explanation import Explanation, explain
from deepterms.inspection.reconciliation import Reconciliation, reconcile_with
from deepterms.inspection.statistics import MAX_QUERIES, estimate_stats, sum_by_codeword
from deepterms.memory.candidates import (
    find_accepted,
    find_best,
    list_candidates,
    rank_by_agreement,
    rank_by_cosine,
    sort_candidates,
)
from deepterms.memory.filters import compile_filter
from deepterms.memory.segments import SEGMENT_DOCUMENTS, OpenSegment, Segment
from deepterms.results import Failure, Hit, Hits, IndexStats, StoredDocument, WriteReport
from deepterms.schema.documents import Batch, check_batch, select_usable_documents
from deepterms.schema.index_spec import check_rerank, choose_default_rerank
from deepterms.schema.sketches import count_survivors, wants_sketch
from deepterms.schema.tuning import DEFAULT_RECALL, Tuning, check_recall
from deepterms.schema.vectors import StoreVectors, parse_vector_type, quantise_and_restore
from deepterms.search.options import SearchKeywords, SearchOptions, check_effort, select_fields
from deepterms.search.promise import keep_promise
from deepterms.search.request import drop_below
from deepterms.search.widening import (
    DEFAULT_BREADTH,
    build_query_terms,
    choose_breadth,
    choose_unfiltered_breadth,
    needs_widening,
)
from deepterms.terms import TermFrequencies
from deepterms.tuning.measurement import OnTuningProgress, Queries, TuningTask
from deepterms.tuning.selection import select_encoder

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MemoryIndex"]


class MemoryIndex:
    """The methods of `SurrogateIndex` without a server.

    Without re-ranking, scores are exact integers. Hits are ordered by descending score, then by ascending id. Engines
    order equal scores by internal document number, so their ids can differ only among equal scores.

    Args:
        encoder: the encoder for documents and queries, or ``"auto"``; with `features`, `documents`, `recall` and
            `rerank` as in `SurrogateIndex.create`.
        store_vectors: store vectors (4·D bytes per document) for exact re-ranking; ``"int8"`` stores vectors rounded
            as in an int8 index, but as float32.
        sketch: compare most candidates by sketch only, as in `SurrogateIndex.create`.

    Raises:
        InvalidInput: ``"auto"`` without features, an unknown vector type, rerank out of range, or a sketch without
            vectors.
    """

    def __init__(
        self,
        encoder: Encoder | Literal["auto"],
        *,
        store_vectors: StoreVectors = True,
        features: ArrayLike | None = None,
        documents: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        sketch: bool | None = None,
    ) -> None:
        self.vector_type = parse_vector_type(store_vectors)
        chosen = select_encoder(
            encoder,
            features=features,
            documents=documents,
            recall=recall,
            sketch=sketch,
            stores_vectors=self.vector_type is not None,
            int8=self.vector_type == "int8",
        )
        # A number of candidates that the user sets takes the place of what was measured.
        self.tuning: Tuning | None = chosen.tuning if rerank is None else None
        rerank = chosen.rerank if rerank is None else rerank
        self.encoder: Encoder = chosen.encoder
        self.rerank = choose_default_rerank(self.encoder) if rerank is None else check_rerank(rerank)
        self.sketch = wants_sketch(
            chosen.sketch if sketch is None else sketch,
            dimensions=self.encoder.dimensions,
            stores_vectors=self.vector_type is not None,
            rerank=self.rerank,
        )
        self._warned: set[float] = set()
        self._segments: list[Segment] = []
        self._open = OpenSegment(self.vector_type)
        self._places: dict[str, int] = {}  # id → segment number · SEGMENT_DOCUMENTS + row

    @property
    def stores_vectors(self) -> bool:
        """Whether the index stores vectors."""
        return self.vector_type is not None

    def __repr__(self) -> str:
        return f"MemoryIndex({self.encoder}, {self.count()} documents)"

    def add(
        self, ids: Sequence[str], features: ArrayLike, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> WriteReport:
        """Index documents; a document with an existing id is replaced. See `SurrogateIndex.add`."""
        return self._add(check_batch(ids, features, metadata, encoder=self.encoder))

    def add_terms(
        self, ids: Sequence[str], terms: TermFrequencies, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> WriteReport:
        """Index documents by term frequencies computed elsewhere. See `SurrogateIndex.add_terms`."""
        return self._add(check_batch(ids, terms, metadata, encoder=self.encoder))

    def _add(self, batch: Batch) -> WriteReport:
        self._forget(batch.ids)
        for start in range(0, len(batch.ids), SEGMENT_DOCUMENTS):
            piece = slice(start, start + SEGMENT_DOCUMENTS)
            self._append(batch.ids[piece], batch.content[piece], batch.metadata[piece])
        return WriteReport(len(batch.ids), batch.failed)

    def search(self, feature: ArrayLike, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to a descriptor. See `SurrogateIndex.search`; for filters, `compile_filter`."""
        asked = SearchOptions(**options)
        return self._search(self._check_one(feature), asked)

    def search_many(self, features: ArrayLike, **options: Unpack[SearchKeywords]) -> list[Hits]:
        """Run `search` for each descriptor of (N, D). See `SurrogateIndex.search_many`."""
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
        """Iterate over every document that shares a codeword with a descriptor. See `SurrogateIndex.search_all`."""
        k = max(1, self.count())
        return iter(
            self.search(feature, k=k, filter=filter, rerank=0, effort=effort, min_score=min_score, fields=fields)
        )

    def search_by_id(self, id: str, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to an indexed one, excluding it. See `SurrogateIndex.search_by_id`."""
        asked = SearchOptions(**options)
        more = replace(asked, k=asked.k + 1)  # the document itself is among the hits
        segment, row = self._require_document(id)
        if asked.rerank_from is not None:
            hits = self._search(self._check_one(asked.rerank_from.features_of([id])), more)
        else:
            vector = segment.get_vector(row)
            hits = self._search(segment.get_terms(row) if vector is None else vector[np.newaxis], more)
        return replace(hits, hits=tuple(hit for hit in hits if hit.id != id)[: asked.k])

    def tune(
        self,
        *,
        recall: float | None = None,
        queries: ArrayLike | None = None,
        sample: int = 400,
        on_progress: OnTuningProgress | None = None,
        seed: int = 2018,
    ) -> Tuning:
        """Measure what searches find, and keep a recall from then on. See `SurrogateIndex.tune`."""
        if not self.stores_vectors:
            raise InvalidInput("the index stores no vectors, so its nearest documents cannot be found")
        held = DEFAULT_RECALL if self.tuning is None else self.tuning.recall
        self.tuning = TuningTask(
            ask=self._search,
            queries=self._draw_queries(sample, seed)
            if queries is None
            else Queries(check_features(queries, dimensions=self.encoder.dimensions)),
            documents=self.count(),
            encoder=self.encoder,
            recall=held if recall is None else check_recall(recall),
            on_progress=on_progress or (lambda *_: None),
        ).run()
        self._warned.clear()
        return self.tuning

    def explain(self, id: str, feature: ArrayLike, *, effort: float = 1.0) -> Explanation:
        """Explain a score by the codewords a document shares with a descriptor. See `SurrogateIndex.explain`."""
        check_effort(effort)
        segment, row = self._require_document(id)
        asked = build_query_terms(self.encoder, self._check_one(feature), effort=effort)
        ((components, weights),) = asked.rows()
        score = float(segment.score(components, weights)[row])
        return explain(id, query=asked, document=segment.get_terms(row), engine_score=score)

    def get(self, id: str) -> StoredDocument | None:
        """Read one document as stored; None if no document has this id."""
        place = self._places.get(id)
        if place is None:
            return None
        segment, row = self._locate(place)
        (terms,) = segment.get_terms(row).to_terms()
        return StoredDocument(id=id, terms=terms, vector=segment.get_vector(row), metadata=segment.metadata[row])

    def update_metadata(self, ids: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> WriteReport:
        """Replace the metadata of documents. See `SurrogateIndex.update_metadata`."""
        if isinstance(ids, str) or len(metadata) != len(ids):
            raise InvalidInput("ids and metadata are sequences of the same length, aligned by position")
        kept, usable, failed = select_usable_documents(ids, metadata)
        report = WriteReport(0, failed)
        for row, changed in zip(kept, usable, strict=True):
            place = self._places.get(ids[row])
            if place is None:
                report += WriteReport(0, (Failure(ids[row], "no such document in this index"),))
            else:
                segment, at = self._locate(place)
                segment.metadata[at] = changed
                report += WriteReport(1)
        return report

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """Delete documents by id; an id that is not in the index counts as deleted."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is a single string, {ids!r}; expected a sequence of ids")
        self._forget(ids)
        return WriteReport(len(ids))

    def delete_by_filter(self, filter: Mapping[str, Any]) -> WriteReport:
        """Delete the documents that match a filter. See `SurrogateIndex.delete_by_filter`."""
        accepts = compile_filter(filter)
        return self.delete(
            [
                identifier
                for segment in self._all_segments()
                for identifier, matches in zip(segment.ids, find_accepted(segment, accepts), strict=True)
                if matches
            ]
        )

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """Count all documents, or those that match a filter."""
        if filter is None:
            return len(self._places)
        accepts = compile_filter(filter)
        return sum(int(find_accepted(segment, accepts).sum()) for segment in self._all_segments())

    def reconcile(self, ids: Iterable[str]) -> Reconciliation:
        """Compare the index with the ids it should hold. See `SurrogateIndex.reconcile`."""
        return reconcile_with(
            ids,
            find_present=lambda piece: {identifier for identifier in piece if identifier in self._places},
            read_ids=lambda: [list(self._places)],
            count=self.count,
        )

    def stats(self) -> IndexStats:
        """Measure the index and the work of a search, exactly. See `SurrogateIndex.stats`."""
        segments = list(self._all_segments())
        codewords = np.concatenate([np.empty(0, np.int32), *(segment.codewords for segment in segments)])
        lengths = np.concatenate([np.empty(0, np.int64), *(segment.list_lengths() for segment in segments)])
        return estimate_stats(
            *sum_by_codeword(codewords, lengths),
            encoder=self.encoder,
            sampled=len(self._places),
            documents=len(self._places),
            size=sum(segment.nbytes for segment in segments),
            segments=len(segments),
            engine="memory",
            vectors=self._draw_vectors(MAX_QUERIES),
        )

    def refresh(self) -> None:
        """Do nothing: writes are visible to search at once."""

    def _append(
        self, ids: list[str], content: NDArray[np.float32] | TermFrequencies, metadata: list[dict[str, Any]]
    ) -> None:
        """Add new documents, at most one segment of them."""
        if len(self._open) + len(ids) > SEGMENT_DOCUMENTS:
            self._segments.append(self._open.build())
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
            yield self._open.build()

    def _locate(self, place: int) -> tuple[Segment, int]:
        number, row = divmod(place, SEGMENT_DOCUMENTS)
        return (self._segments[number] if number < len(self._segments) else self._open.build()), row

    def _check_one(self, feature: ArrayLike) -> NDArray[np.float32]:
        """Validate one feature and return it as (1, D)."""
        return as_one_feature(feature, dimensions=self.encoder.dimensions)

    def _draw_queries(self, count: int, seed: int) -> Queries:
        """Draw random documents that have a vector."""
        ids = list(self._places)
        drawn = [ids[number] for number in np.random.default_rng(seed).permutation(len(ids))[:count]]
        vectors = [segment.get_vector(row) for segment, row in (self._locate(self._places[id]) for id in drawn)]
        kept = [(id, vector) for id, vector in zip(drawn, vectors, strict=True) if vector is not None]
        array = np.array([vector for _, vector in kept], dtype=np.float32).reshape(-1, self.encoder.dimensions)
        return Queries(array, tuple(id for id, _ in kept))

    def _draw_vectors(self, count: int) -> NDArray[np.float32]:
        """Draw vectors of random documents, at most (count, D); the same each time while nothing is written."""
        places = list(self._places.values())
        drawn = np.random.default_rng(0).permutation(len(places))[:count]
        vectors = [segment.get_vector(row) for segment, row in (self._locate(places[number]) for number in drawn)]
        kept = [vector for vector in vectors if vector is not None]
        return np.array(kept, dtype=np.float32).reshape(-1, self.encoder.dimensions)

    def _require_document(self, id: str) -> tuple[Segment, int]:
        place = self._places.get(id)
        if place is None:
            raise InvalidInput(f"no document {id!r} in this index")
        return self._locate(place)

    def _search(self, asked: NDArray[np.float32] | TermFrequencies, options: SearchOptions) -> Hits:
        """Search by a feature (1, D), or by terms alone, which disables re-ranking."""
        query = None if isinstance(asked, TermFrequencies) else asked
        stored = self.stores_vectors
        if query is not None:
            options = keep_promise(
                options, tuning=self.tuning, stores_vectors=stored, name="a MemoryIndex", warned=self._warned
            )
        breadth = DEFAULT_BREADTH if query is None else choose_unfiltered_breadth(options)
        window = options.count_candidates(stores_vectors=stored, default=self.rerank) if query is not None else 0
        window = breadth.window or window
        accepts = None if options.filter is None else compile_filter(options.filter)
        segments = [
            (segment, segment.live if accepts is None else find_accepted(segment, accepts))
            for segment in self._all_segments()
        ]
        if accepts is not None and not breadth.exact and needs_widening(self.encoder, window=window):
            breadth = choose_breadth(
                self.encoder,
                kept=sum(int(kept.sum()) for _, kept in segments),
                documents=self.count(),
                window=window,
                effort=options.share,
                exact=self.stores_vectors and options.rerank_from is None,
                sketch=self.sketch,
                base=breadth,
            )
        terms: TermFrequencies | None = None
        if breadth.exact:
            candidates = [candidate for segment, kept in segments for candidate in list_candidates(segment, kept)]
        else:
            window = breadth.window or window
            terms = build_query_terms(self.encoder, asked, breadth, effort=options.share)
            ((components, weights),) = terms.rows()
            candidates = []
            for segment, kept in segments:
                scores = segment.score(components, weights)
                scores[~kept] = 0
                candidates += find_best(segment, scores, len(scores) if breadth.listed else window or options.k)
            if not breadth.listed:
                candidates = sort_candidates(candidates)[: window or options.k]
        if window and query is not None:
            unit = normalise_rows(query)[0]
            by_sketch = breadth.sketched or not (breadth.exact or breadth.listed)
            if self.sketch and options.rerank_from is None and by_sketch:
                candidates = rank_by_agreement(candidates, unit, count_survivors(options.k, far=breadth.exact))
            candidates = rank_by_cosine(candidates, unit, options.rerank_from)
        hits = (
            Hit(identifier, -score, select_fields(segment.metadata[row], options.fields))
            for score, identifier, segment, row in candidates[: options.k]
        )
        promised = None if options.setting is None else options.setting.recall
        return drop_below(Hits(tuple(hits), terms=terms, recall=promised), options.min_score)
