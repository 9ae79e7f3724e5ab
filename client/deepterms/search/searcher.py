"""Searcher: queries to hits of one index; one query per request, many per request, or page by page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import POINT_IN_TIME_KEEP_ALIVE, Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import find_error, is_incomplete
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import find_unusable_rows, normalise_rows
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Hit, Hits
from deepterms.schema.index_spec import IndexState
from deepterms.search.body import search_body
from deepterms.search.date_filters import check_date_filter
from deepterms.search.filter_counts import FilterCounts
from deepterms.search.options import SearchOptions, source_fields
from deepterms.search.promise import keep_promise
from deepterms.search.request import Search, list_indices
from deepterms.search.widening import (
    DEFAULT_BREADTH,
    Breadth,
    build_query_terms,
    choose_breadth,
    choose_unfiltered_breadth,
    needs_widening,
)
from deepterms.telemetry import span
from deepterms.terms import TermFrequencies

__all__ = ["SEARCHES_PER_REQUEST", "SearchOutcome", "Searcher"]

SEARCHES_PER_REQUEST = 32  # of 2,048-d with K = 100: 0.6 MB
IDS_PER_REQUEST = 1_000

logger = logging.getLogger("deepterms")


@dataclass(frozen=True)
class SearchOutcome:
    """Hits of one or more queries, and the evidence of which index they came from.

    Attributes:
        hits: hits of each query.
        indices: concrete indices that the hits come from.
        doubtful: whether a query found nothing or was rejected, as happens to a query encoded for another index, or
            whether the number of shards that answered is not the index's.
    """

    hits: list[Hits]
    indices: set[str]
    doubtful: bool


@dataclass(frozen=True)
class Searcher:
    """Sends searches to one index, built for one state of it.

    Attributes:
        cluster: the cluster that holds the index.
        index: the state that searches are built for.
        counts: cached counts of the documents that filters keep.
        warned: the recalls that a warning was given for, because all documents are compared.
    """

    cluster: Cluster
    index: IndexState
    counts: FilterCounts
    warned: set[float] = field(default_factory=set, compare=False)

    @property
    def encoder(self) -> Encoder:
        """The encoder of the index."""
        return self.index.spec.encoder

    def search(
        self, feature: NDArray[np.float32] | None, options: SearchOptions, *, terms: TermFrequencies | None = None
    ) -> SearchOutcome:
        """Send one search.

        Args:
            feature: the descriptor, float32 (1, D); None if only terms are known, which disables re-ranking.
            options: options of the search.
            terms: term frequencies of the query, (1, V). Default: as the encoder computes them.

        Raises:
            InvalidInput: the query has more clauses than the cluster allows, re-ranking is requested without vectors,
                `rerank_from` lacks a candidate, or the filter treats keywords as dates.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        check_date_filter(self.cluster, self.index.name, options.plain_filter)
        breadth = DEFAULT_BREADTH
        if feature is not None and terms is None:
            options = self._keep_promise(options)
            breadth = self._choose_breadth(options)
        search = self._build_search(feature, options, terms, breadth)
        self.cluster.check_clauses(search.clauses)
        with span("deepterms.search", index=self.index.name, k=options.k, rerank=options.rerank) as spanned:
            answer = self.cluster.request("POST", build_index_path(self.index.name, "/_search"), body=search.body)
            spanned.note(hits=len(answer["hits"]["hits"]))
        hits = search.read_hits(answer)
        if search.candidates:
            (hits,) = self._add_metadata([search.rerank(hits)], options)
        return SearchOutcome([hits], list_indices(answer), doubtful=self._is_doubtful(answer))

    def search_many(self, features: NDArray[np.float32], options: SearchOptions) -> SearchOutcome:
        """Send a search for each row of (N, D), several per request; a search that fails does not affect the others."""
        check_date_filter(self.cluster, self.index.name, options.plain_filter)
        reasons = find_unusable_rows(features)
        options = self._keep_promise(options)
        breadth = self._choose_breadth(options)
        found = SearchOutcome(
            [_fail_search(reasons.get(row, "")) for row in range(len(features))], set(), doubtful=False
        )
        usable = [row for row in range(len(features)) if row not in reasons]
        attributes = {"queries": len(features), "k": options.k, "rerank": options.rerank}
        with span("deepterms.search_many", index=self.index.name, **attributes) as spanned:
            for start in range(0, len(usable), SEARCHES_PER_REQUEST):
                rows = usable[start : start + SEARCHES_PER_REQUEST]
                chunk = self._search_chunk(features[rows], options, breadth)
                for row, hits in zip(rows, chunk.hits, strict=True):
                    found.hits[row] = hits
                found = SearchOutcome(found.hits, found.indices | chunk.indices, found.doubtful or chunk.doubtful)
            failed = [hits.error for hits in found.hits if hits.error]
            spanned.note(hits=sum(map(len, found.hits)), failed=len(failed))
        if failed:
            logger.warning("%d of %d searches of %s failed: %s", len(failed), len(features), self.index.name, failed[0])
        return found

    def read_pages(
        self, feature: NDArray[np.float32], options: SearchOptions, *, size: int, point: str
    ) -> Iterator[list[Hit]]:
        """Yield every document that shares a codeword with a query in pages, by score and then by id.

        All pages see the index as of one point in time.

        Args:
            feature: the descriptor, float32 (1, D).
            options: options of the search; k and rerank are ignored.
            size: hits per page.
            point: id of the point in time, from `Cluster.point_in_time`.

        Raises:
            ClusterError: a page is incomplete, or a document without an explicit id makes the order ambiguous.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        check_date_filter(self.cluster, self.index.name, options.plain_filter)
        search = self._build_search(
            feature, replace(options, k=size, rerank=0, rerank_from=None), None, DEFAULT_BREADTH
        )
        self.cluster.check_clauses(search.clauses)
        body: dict[str, Any] = {**search.body, "sort": [{"_score": "desc"}, {"id": "asc"}]}
        full = True
        while full:
            body["pit"] = {"id": point, "keep_alive": POINT_IN_TIME_KEEP_ALIVE}
            answer = self.cluster.request("POST", "/_search", body=body)
            found = answer["hits"]["hits"]
            if is_incomplete(answer):
                raise ClusterError("a shard failed or timed out, so a page would be incomplete; search again")
            if any(hit["sort"][1] is None for hit in found):
                raise ClusterError(
                    "a document was indexed without an explicit id, so equal scores have no order to page by; "
                    "index such documents with explicit ids, or call search with k up to 10,000"
                )
            hits = [Hit(hit["_id"], float(hit["sort"][0]), hit.get("_source", {}).get("metadata", {})) for hit in found]
            least = options.min_score
            kept = hits if least is None else [hit for hit in hits if hit.score >= least]
            yield kept
            full = len(kept) == size
            point = answer.get("pit_id", point)
            if found:
                body["search_after"] = found[-1]["sort"]

    def _keep_promise(self, options: SearchOptions) -> SearchOptions:
        state = self.index
        return keep_promise(
            options,
            tuning=state.tuning,
            stores_vectors=state.spec.stores_vectors,
            name=state.name,
            warned=self.warned,
        )

    def _choose_breadth(self, options: SearchOptions) -> Breadth:
        """Choose the breadth of a search; with a filter, this may count the documents that it keeps."""
        spec, base = self.index.spec, choose_unfiltered_breadth(options)
        window = base.window or options.count_candidates(stores_vectors=spec.stores_vectors, default=spec.candidates)
        filter = options.plain_filter
        if filter is None or base.exact or not needs_widening(self.encoder, window=window):
            return base
        counts = self.counts.get(filter)
        if counts is None:
            return base  # a shard did not answer; the search will report it
        exact = spec.stores_vectors and options.rerank_from is None
        return choose_breadth(
            self.encoder,
            kept=counts.kept,
            documents=counts.documents,
            window=window,
            effort=options.share,
            exact=exact,
            sketch=spec.sketch,
            native=spec.is_native,
            base=base,
        )

    def _build_search(
        self,
        feature: NDArray[np.float32] | None,
        options: SearchOptions,
        terms: TermFrequencies | None,
        breadth: Breadth,
    ) -> Search:
        query = normalise_rows(feature)[0] if feature is not None else None
        if breadth.exact and query is not None and self.index.spec.stores_vectors:
            return Search.exact(query, index=self.index, options=options, sketched=breadth.sketched)
        asked = feature if terms is None else terms
        if asked is None:
            raise InvalidInput("a search needs a feature or terms; got neither")
        named = build_query_terms(self.encoder, asked, breadth, effort=options.share)
        if breadth.listed and query is not None:
            return Search.listed(named, query, index=self.index, options=options)
        return Search.build(
            named,
            query,
            index=self.index,
            options=breadth.widen(options),
        )

    def _is_doubtful(self, answer: Mapping[str, Any]) -> bool:
        return not answer["hits"]["hits"] or answer["_shards"]["total"] != self.index.shards

    def _search_chunk(self, features: NDArray[np.float32], options: SearchOptions, breadth: Breadth) -> SearchOutcome:
        searches = [self._build_search(features[row : row + 1], options, None, breadth) for row in range(len(features))]
        found = [Hits(())] * len(searches)
        sent: list[int] = []
        for place, search in enumerate(searches):
            try:
                self.cluster.check_clauses(search.clauses)
                sent.append(place)
            except InvalidInput as error:
                found[place] = _fail_search(str(error))
        answers: list[dict[str, Any]] = []
        try:
            if sent:
                answers = self.cluster.search_many([searches[place].body for place in sent], index=self.index.name)
        except ClusterError as error:
            if getattr(error, "status", 0) == 400:
                raise  # the engine rejects the filter, which all of them share
            found, sent = [hits if hits.error else _fail_search(str(error)) for hits in found], []
        indices: set[str] = set()
        doubtful = False
        for place, answer in zip(sent, answers, strict=True):
            rejection = find_error(answer)
            if rejection is not None:
                found[place], doubtful = (
                    _fail_search(str(rejection)),
                    doubtful or getattr(rejection, "status", 0) in (400, 404),
                )
                continue
            indices |= list_indices(answer)
            doubtful = doubtful or self._is_doubtful(answer)
            try:
                hits = searches[place].read_hits(answer)
                found[place] = searches[place].rerank(hits) if searches[place].candidates else hits
            except (InvalidInput, ClusterError) as error:
                found[place] = _fail_search(str(error))
        if options.rerank_from is not None:
            found = self._add_metadata(found, options)
        return SearchOutcome(found, indices, doubtful)

    def _add_metadata(self, found: list[Hits], options: SearchOptions) -> list[Hits]:
        """Add metadata to hits; drop documents deleted in the meantime."""
        source = source_fields(options.fields)
        if source is False:
            return found
        ids = sorted({hit.id for hits in found for hit in hits})
        metadata: dict[str, Any] = {}
        lost = False
        for start in range(0, len(ids), IDS_PER_REQUEST):
            chunk = ids[start : start + IDS_PER_REQUEST]
            body = {"query": {"ids": {"values": chunk}}, "size": len(chunk), "_source": source}
            answer = self.cluster.request("POST", build_index_path(self.index.name, "/_search"), body=body)
            lost = lost or is_incomplete(answer)
            for hit in answer["hits"]["hits"]:
                metadata[hit["_id"]] = hit.get("_source", {}).get("metadata", {})
        return [
            replace(
                hits,
                hits=tuple(replace(hit, metadata=metadata[hit.id]) for hit in hits if hit.id in metadata),
                partial=hits.partial or lost,
            )
            for hits in found
        ]

    def fetch_score(self, id: str, terms: TermFrequencies) -> float:
        """Fetch the score the index gives one document for a query (1, V); 0 if they share no codeword."""
        body = search_body(
            terms,
            layout=self.index.spec.layout,
            field=self.index.field,
            k=1,
            filter={"ids": {"values": [id]}},
            source=False,
        )
        answer = self.cluster.request("POST", build_index_path(self.index.name, "/_search"), body=body)
        found = answer["hits"]["hits"]
        if not found and is_incomplete(answer):
            raise ClusterError(f"a shard of {self.index.name!r} did not answer, so the score is unknown; try again")
        return float(found[0]["_score"]) if found else 0.0


def _fail_search(why: str) -> Hits:
    return Hits((), partial=bool(why), error=why)
