"""MemoryIndex: documents in this process to exact hits, by scanning posting lists; the reference for engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features
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
    rank_by_bytes,
    rank_by_cosine,
    rank_by_sketch,
    sort_candidates,
)
from deepterms.memory.field_mapping import FieldMapping
from deepterms.memory.filters import compile_filter
from deepterms.memory.segments import SEGMENT_DOCUMENTS, Mutex, OpenSegment, Segment
from deepterms.results import Failure, Hit, Hits, IndexStats, StoredDocument, WriteReport
from deepterms.schema.aligned import (
    Ids,
    MetadataRows,
    align_metadata,
    check_terms,
    read_id,
    read_id_pieces,
    select_ids,
)
from deepterms.schema.documents import Batch, check_batch, select_usable_documents
from deepterms.schema.index_spec import check_rerank, choose_comparison, choose_default_rerank
from deepterms.schema.layouts import find_layout
from deepterms.schema.native_vectors import NATIVE, Compare, check_native, parse_compare
from deepterms.schema.sketches import count_survivors, wants_sketch
from deepterms.schema.tuning import DEFAULT_RECALL, Tuning, check_recall
from deepterms.schema.vectors import StoreVectors, parse_vector_type, quantise_and_restore, round_query
from deepterms.search.filters import Filter, normalise_filter
from deepterms.search.native import count_rescored
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

    Threads may share an index. A search sees each piece of up to 65,536 documents of an `add` whole or not at all.

    Args:
        encoder: the encoder for documents and queries, or ``"auto"``; with `features`, `documents`, `recall` and
            `rerank` as in `SurrogateIndex.create`.
        store_vectors: store vectors (4·D bytes per document) for exact re-ranking; ``"int8"`` stores vectors rounded
            as in an int8 index, but as float32.
        compare: ``"native"`` compares all documents that share a codeword with the query, as such an index does, and
            stores int8 vectors. Default: ``"script"``, only the best candidates, as an index in any other engine.
        sketch: compare most candidates by sketch only, as in `SurrogateIndex.create`.
        schema: the types of metadata fields, as in `SurrogateIndex.create`. Other fields get theirs as in the engines.

    Raises:
        InvalidInput: ``"auto"`` without features, an unknown vector type, rerank out of range, a sketch without
            vectors, or a schema with a type that no engine has.
    """

    def __init__(
        self,
        encoder: Encoder | Literal["auto"],
        *,
        store_vectors: StoreVectors = True,
        features: Features | None = None,
        documents: int | None = None,
        recall: float | None = None,
        rerank: int | None = None,
        compare: Compare | None = None,
        sketch: bool | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        stored = parse_vector_type(store_vectors)
        chosen = select_encoder(
            encoder,
            features=features,
            documents=documents,
            recall=recall,
            sketch=sketch,
            stores_vectors=stored is not None,
            int8=stored == "int8",
            native=compare == NATIVE,
        )
        # A number of candidates that the user sets takes the place of what was measured.
        self.tuning: Tuning | None = chosen.tuning if rerank is None else None
        rerank = chosen.rerank if rerank is None else rerank
        self.encoder: Encoder = chosen.encoder
        self.rerank = choose_default_rerank(self.encoder) if rerank is None else check_rerank(rerank)
        self.compare, self.vector_type = choose_comparison(
            parse_compare(compare) or "script",
            store_vectors,
            engine=None,
            encoder=self.encoder,
            layout=find_layout("codewords"),
            reranks=self.rerank > 0,
            sketch=sketch,
        )
        native = self.compare == NATIVE
        if native:
            check_native(None, self.encoder, layout=find_layout("codewords"), vector_type=self.vector_type)
        self.sketch = wants_sketch(
            chosen.sketch if sketch is None else sketch,
            dimensions=self.encoder.dimensions,
            stores_vectors=self.vector_type is not None,
            rerank=self.rerank,
            native=native,
        )
        self._warned: set[float] = set()
        self.fields = FieldMapping(schema)
        self._lock = Mutex()  # held for moments only: never while encoding, inverting or scoring
        self._segments = [OpenSegment(self.vector_type)]  # only the last one still grows
        self._places: dict[str, int] = {}  # id → segment number · SEGMENT_DOCUMENTS + row

    @property
    def stores_vectors(self) -> bool:
        """Whether the index stores vectors."""
        return self.vector_type is not None

    def __repr__(self) -> str:
        return f"MemoryIndex({self.encoder}, {self.count()} documents)"

    def add(self, ids: Ids, features: Features, metadata: MetadataRows | None = None) -> WriteReport:
        """Index documents; a document with an existing id is replaced. See `SurrogateIndex.add`."""
        return self._add(check_batch(ids, features, metadata, encoder=self.encoder, schema=self.fields.schema))

    def add_terms(self, ids: Ids, terms: TermFrequencies, metadata: MetadataRows | None = None) -> WriteReport:
        """Index documents by term frequencies computed elsewhere. See `SurrogateIndex.add_terms`."""
        return self._add(
            check_batch(ids, check_terms(terms), metadata, encoder=self.encoder, schema=self.fields.schema)
        )

    def _add(self, batch: Batch) -> WriteReport:
        learnt = [self._learn(metadata) for metadata in batch.metadata]
        misfits = tuple(Failure(id, reason) for id, reason in zip(batch.ids, learnt, strict=True) if reason)
        if misfits:
            kept = batch.select(set(batch.ids) - {failure.id for failure in misfits})
            batch = replace(kept, failed=(*batch.failed, *misfits))
        for start in range(0, len(batch.ids), SEGMENT_DOCUMENTS):
            piece = slice(start, start + SEGMENT_DOCUMENTS)
            vectors, terms = self._encode(batch.content[piece])
            with self._lock:
                self._forget(batch.ids[piece])
                self._append(batch.ids[piece], vectors, batch.metadata[piece], terms)
        return WriteReport(len(batch.ids), batch.failed)

    def _learn(self, metadata: Mapping[str, Any]) -> str:
        with self._lock:
            return self.fields.learn(metadata)

    def search(self, feature: Features, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to a descriptor. See `SurrogateIndex.search`; for filters, `compile_filter`."""
        asked = SearchOptions(**options)
        return self._search(self._check_one(feature), asked)

    def search_many(self, features: Features, **options: Unpack[SearchKeywords]) -> list[Hits]:
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
        feature: Features,
        *,
        filter: Filter | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
    ) -> Iterator[Hit]:
        """Iterate over every document that shares a codeword with a descriptor. See `SurrogateIndex.search_all`."""
        k = max(1, self.count())
        return iter(
            self.search(feature, k=k, filter=filter, rerank=0, effort=effort, min_score=min_score, fields=fields)
        )

    def search_by_id(self, id: str | int, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to an indexed one, excluding it. See `SurrogateIndex.search_by_id`."""
        asked, id = SearchOptions(**options), read_id(id)
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
        queries: Features | None = None,
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
            native=self.compare == NATIVE,
            on_progress=on_progress or (lambda *_: None),
        ).run()
        self._warned.clear()
        return self.tuning

    def explain(self, id: str | int, feature: Features, *, effort: float = 1.0) -> Explanation:
        """Explain a score by the codewords a document shares with a descriptor. See `SurrogateIndex.explain`."""
        check_effort(effort)
        id = read_id(id)
        segment, row = self._require_document(id)
        asked = build_query_terms(self.encoder, self._check_one(feature), effort=effort)
        ((components, weights),) = asked.rows()
        score = float(segment.score(components, weights)[row])
        return explain(id, query=asked, document=segment.get_terms(row), engine_score=score)

    def get(self, id: str | int) -> StoredDocument | None:
        """Read one document as stored; None if no document has this id."""
        id = read_id(id)
        place = self._places.get(id)
        if place is None:
            return None
        segment, row = self._locate(place)
        (terms,) = segment.get_terms(row).to_terms()
        return StoredDocument(id=id, terms=terms, vector=segment.get_vector(row), metadata=segment.metadata[row])

    def update_metadata(self, ids: Ids, metadata: MetadataRows) -> WriteReport:
        """Replace the metadata of documents. See `SurrogateIndex.update_metadata`."""
        listed, about = align_metadata(ids, metadata)
        kept, usable, failed = select_usable_documents(listed, about, schema=self.fields.schema)
        report = WriteReport(0, failed)
        for row, changed in zip(kept, usable, strict=True):
            place = self._places.get(listed[row])
            if place is None:
                report += WriteReport(0, (Failure(listed[row], "no such document in this index"),))
            elif reason := self._learn(changed):
                report += WriteReport(0, (Failure(listed[row], reason),))
            else:
                number, at = divmod(place, SEGMENT_DOCUMENTS)
                self._segments[number].replace_metadata(at, changed)
                report += WriteReport(1)
        return report

    def delete(self, ids: Ids) -> WriteReport:
        """Delete documents by id; an id that is not in the index counts as deleted."""
        report = WriteReport(0)
        for piece in read_id_pieces(ids, SEGMENT_DOCUMENTS):
            usable, failed = select_ids(piece)
            with self._lock:
                self._forget(usable)
            report += WriteReport(len(usable), failed)
        return report

    def delete_by_filter(self, filter: Filter) -> WriteReport:
        """Delete the documents that match a filter. See `SurrogateIndex.delete_by_filter`."""
        accepts = compile_filter(normalise_filter(filter), self.fields)
        return self.delete(
            [
                identifier
                for segment in self._all_segments()
                for identifier, matches in zip(segment.ids, find_accepted(segment, accepts), strict=True)
                if matches
            ]
        )

    def count(self, *, filter: Filter | None = None) -> int:
        """Count all documents, or those that match a filter."""
        if filter is None:
            return len(self._places)
        accepts = compile_filter(normalise_filter(filter), self.fields)
        return sum(int(find_accepted(segment, accepts).sum()) for segment in self._all_segments())

    def reconcile(self, ids: Ids) -> Reconciliation:
        """Compare the index with the ids it should hold. See `SurrogateIndex.reconcile`."""
        return reconcile_with(
            ids,
            find_present=lambda piece: {identifier for identifier in piece if identifier in self._places},
            read_ids=lambda: [self._list_places()[0]],
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

    def _encode(self, content: NDArray[np.float32] | TermFrequencies) -> tuple[NDArray[np.float32], TermFrequencies]:
        if isinstance(content, TermFrequencies):
            shape = len(content), self.encoder.dimensions
            return np.full(shape, np.nan, dtype=np.float32), content  # NaN: no vector
        return quantise_and_restore(content, self.vector_type or "float32"), self.encoder.encode(content)

    def _append(
        self, ids: list[str], vectors: NDArray[np.float32], metadata: list[dict[str, Any]], terms: TermFrequencies
    ) -> None:
        """Add new documents, at most one segment of them, while the lock is held."""
        done = 0
        while done < len(ids):
            if len(self._segments[-1]) == SEGMENT_DOCUMENTS:
                self._segments.append(OpenSegment(self.vector_type))
            growing, number = self._segments[-1], len(self._segments) - 1
            first = len(growing)
            piece = slice(done, done + SEGMENT_DOCUMENTS - first)
            growing.append(ids[piece], vectors[piece], metadata[piece], terms[piece])
            places = range(number * SEGMENT_DOCUMENTS + first, number * SEGMENT_DOCUMENTS + len(growing))
            self._places.update(zip(ids[piece], places, strict=True))
            done += len(places)

    def _forget(self, ids: Sequence[str]) -> None:
        """Stop counting documents, while the lock is held."""
        for identifier in ids:
            place = self._places.pop(identifier, None)
            if place is not None:
                number, row = divmod(place, SEGMENT_DOCUMENTS)
                self._segments[number].live[row] = False

    def _all_segments(self) -> Iterator[Segment]:
        """Yield the segments as they were at one moment."""
        with self._lock:
            live = [(segment, segment.live.copy()) for segment in self._segments if len(segment)]
        return (segment.build(kept) for segment, kept in live)

    def _list_places(self) -> tuple[list[str], list[int]]:
        """List all ids and their places."""
        with self._lock:
            return list(self._places), list(self._places.values())

    def _locate(self, place: int) -> tuple[Segment, int]:
        number, row = divmod(place, SEGMENT_DOCUMENTS)
        return self._segments[number].build(), row

    def _check_one(self, feature: Features) -> NDArray[np.float32]:
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
        _, places = self._list_places()
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
        accepts = None if options.plain_filter is None else compile_filter(options.plain_filter, self.fields)
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
                native=self.compare == NATIVE,
                base=breadth,
            )
        compared = query is not None and bool(window or breadth.exact or breadth.listed)
        native = compared and self.compare == NATIVE
        # All documents of the lists are compared, not only those with the most codewords in common.
        listed = breadth.listed or native
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
                candidates += find_best(segment, scores, len(scores) if listed else window or options.k)
            if not listed:
                candidates = sort_candidates(candidates)[: window or options.k]
        if compared and query is not None:
            unit = normalise_rows(query)[0]
            if native:
                found = count_rescored(options.k) if options.rerank_from is None else window
                candidates = rank_by_bytes(candidates, unit, found)
            by_sketch = breadth.sketched or not (breadth.exact or breadth.listed)
            if self.sketch and options.rerank_from is None and by_sketch:
                candidates = rank_by_sketch(candidates, unit, count_survivors(options.k, far=breadth.exact))
            if self.vector_type is not None and options.rerank_from is None and not native:
                unit = round_query(unit, self.vector_type)
            candidates = rank_by_cosine(candidates, unit, options.rerank_from)
        hits = (
            Hit(identifier, -score, select_fields(segment.metadata[row], options.fields))
            for score, identifier, segment, row in candidates[: options.k]
        )
        promised = None if options.setting is None else options.setting.recall
        return drop_below(Hits(tuple(hits), terms=terms, recall=promised), options.min_score)
