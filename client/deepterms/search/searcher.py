"""Searcher: searches sent to one index, one by one, many in a request or page by page, and their hits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from deepterms.search.filter_counts import FilterCounts
from deepterms.search.options import SearchOptions, source_fields
from deepterms.search.request import Search, indices_of
from deepterms.search.widening import USUAL, Breadth, breadth_of, query_terms, widens
from deepterms.telemetry import span
from deepterms.terms import TermFrequencies

__all__ = ["SEARCHES_PER_REQUEST", "SearchOutcome", "Searcher"]

SEARCHES_PER_REQUEST = 32  # of 2,048-d with K = 100: 0.6 MB
IDS_PER_REQUEST = 1_000

logger = logging.getLogger("deepterms")


@dataclass(frozen=True)
class SearchOutcome:
    """Hits of one or several queries, and what tells whether the right index gave them.

    Attributes:
        hits: one per query.
        indices: the concrete indices that they are from.
        doubtful: a query found nothing or was rejected, as happens to one that was encoded for another index; or
            another number of shards answered than the index has.
    """

    hits: list[Hits]
    indices: set[str]
    doubtful: bool


@dataclass(frozen=True)
class Searcher:
    """Sends searches to one index, written for one state of it.

    Attributes:
        cluster: where it is.
        index: the state that searches are written for.
        counts: how many documents filters keep.
    """

    cluster: Cluster
    index: IndexState
    counts: FilterCounts

    @property
    def encoder(self) -> Encoder:
        """Of the index."""
        return self.index.spec.encoder

    def search(
        self, feature: NDArray[np.float32] | None, options: SearchOptions, *, terms: TermFrequencies | None = None
    ) -> SearchOutcome:
        """Send one search.

        Args:
            feature: float32 (1, D); None if only terms are known, which leaves re-ranking out.
            options: as asked.
            terms: of the query, (1, V); by default the encoder's.

        Raises:
            InvalidInput: more clauses than the cluster allows; re-ranking without vectors; a candidate that the
                feature store lacks.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        breadth = self._breadth(options) if feature is not None and terms is None else USUAL
        search = self._search(feature, options, terms, breadth)
        self.cluster.check_clauses(search.clauses)
        with span("deepterms.search", index=self.index.name, k=options.k, rerank=options.rerank) as spanned:
            answer = self.cluster.request("POST", build_index_path(self.index.name, "/_search"), body=search.body)
            spanned.note(hits=len(answer["hits"]["hits"]))
        hits = search.hits(answer)
        if search.candidates:
            (hits,) = self._with_metadata([search.reranked(hits)], options)
        return SearchOutcome([hits], indices_of(answer), doubtful=self._is_doubtful(answer))

    def search_many(self, features: NDArray[np.float32], options: SearchOptions) -> SearchOutcome:
        """Send a search for each row of (N, D), a bounded number in one request; a failed one loses no other."""
        reasons = find_unusable_rows(features)
        breadth = self._breadth(options)
        found = SearchOutcome([_failed(reasons.get(row, "")) for row in range(len(features))], set(), doubtful=False)
        usable = [row for row in range(len(features)) if row not in reasons]
        attributes = {"queries": len(features), "k": options.k, "rerank": options.rerank}
        with span("deepterms.search_many", index=self.index.name, **attributes) as spanned:
            for start in range(0, len(usable), SEARCHES_PER_REQUEST):
                rows = usable[start : start + SEARCHES_PER_REQUEST]
                chunk = self._chunk(features[rows], options, breadth)
                for row, hits in zip(rows, chunk.hits, strict=True):
                    found.hits[row] = hits
                found = SearchOutcome(found.hits, found.indices | chunk.indices, found.doubtful or chunk.doubtful)
            failed = [hits.error for hits in found.hits if hits.error]
            spanned.note(hits=sum(map(len, found.hits)), failed=len(failed))
        if failed:
            logger.warning("%d of %d searches of %s failed: %s", len(failed), len(features), self.index.name, failed[0])
        return found

    def pages(self, feature: NDArray[np.float32], options: SearchOptions, *, size: int) -> Iterator[list[Hit]]:
        """Every document that shares a codeword with a query, by score and then by id, as of the first page.

        Args:
            feature: float32 (1, D).
            options: as asked; k and rerank do not count.
            size: hits a page.

        Raises:
            ClusterError: a page is not whole, or a document has no id of its own to order equal scores by.
            ClusterUnreachable, RequestRejected, UnsupportedEngine: the cluster did not answer, or refused.
        """
        search = self._search(feature, replace(options, k=size, rerank=0, rerank_from=None), None, USUAL)
        self.cluster.check_clauses(search.clauses)
        body: dict[str, Any] = {**search.body, "sort": [{"_score": "desc"}, {"id": "asc"}]}
        with self.cluster.point_in_time(self.index.name) as point:
            full = True
            while full:
                body["pit"] = {"id": point, "keep_alive": POINT_IN_TIME_KEEP_ALIVE}
                answer = self.cluster.request("POST", "/_search", body=body)
                found = answer["hits"]["hits"]
                if is_incomplete(answer):
                    raise ClusterError("a shard failed or ran out of time, so a page would not be whole; search again")
                if any(hit["sort"][1] is None for hit in found):
                    raise ClusterError(
                        "a document was indexed without an id of its own, so equal scores have no order that pages "
                        "could follow; give such documents ids, or search with k up to 10,000"
                    )
                hits = [
                    Hit(hit["_id"], float(hit["sort"][0]), hit.get("_source", {}).get("metadata", {})) for hit in found
                ]
                least = options.min_score
                kept = hits if least is None else [hit for hit in hits if hit.score >= least]
                yield kept
                full = len(kept) == size
                point = answer.get("pit_id", point)
                if found:
                    body["search_after"] = found[-1]["sort"]

    def _breadth(self, options: SearchOptions) -> Breadth:
        """How widely to look behind the filter; may ask how many documents it keeps."""
        spec = self.index.spec
        window = options.window(stores_vectors=spec.stores_vectors, usual=spec.candidates)
        if options.filter is None or not widens(self.encoder, window=window):
            return USUAL
        counts = self.counts.of(options.filter)
        if counts is None:
            return USUAL  # the search itself will say so
        exact = spec.stores_vectors and options.rerank_from is None
        return breadth_of(
            self.encoder,
            kept=counts.kept,
            documents=counts.documents,
            window=window,
            effort=options.effort,
            exact=exact,
            sketch=spec.sketch,
        )

    def _search(
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
        return Search.build(
            query_terms(self.encoder, asked, breadth, effort=options.effort),
            query,
            index=self.index,
            options=breadth.widened(options),
        )

    def _is_doubtful(self, answer: Mapping[str, Any]) -> bool:
        return not answer["hits"]["hits"] or answer["_shards"]["total"] != self.index.shards

    def _chunk(self, features: NDArray[np.float32], options: SearchOptions, breadth: Breadth) -> SearchOutcome:
        searches = [self._search(features[row : row + 1], options, None, breadth) for row in range(len(features))]
        found = [Hits(())] * len(searches)
        sent: list[int] = []
        for place, search in enumerate(searches):
            try:
                self.cluster.check_clauses(search.clauses)
                sent.append(place)
            except InvalidInput as error:
                found[place] = _failed(str(error))
        answers: list[dict[str, Any]] = []
        try:
            if sent:
                answers = self.cluster.search_many([searches[place].body for place in sent], index=self.index.name)
        except ClusterError as error:
            if getattr(error, "status", 0) == 400:
                raise  # the engine cannot read what all of them ask
            found, sent = [hits if hits.error else _failed(str(error)) for hits in found], []
        indices: set[str] = set()
        doubtful = False
        for place, answer in zip(sent, answers, strict=True):
            refused = find_error(answer)
            if refused is not None:
                found[place], doubtful = _failed(str(refused)), doubtful or getattr(refused, "status", 0) in (400, 404)
                continue
            indices |= indices_of(answer)
            doubtful = doubtful or self._is_doubtful(answer)
            try:
                hits = searches[place].hits(answer)
                found[place] = searches[place].reranked(hits) if searches[place].candidates else hits
            except (InvalidInput, ClusterError) as error:
                found[place] = _failed(str(error))
        if options.rerank_from is not None:
            found = self._with_metadata(found, options)
        return SearchOutcome(found, indices, doubtful)

    def _with_metadata(self, found: list[Hits], options: SearchOptions) -> list[Hits]:
        """The same hits with their metadata; one that is not found any more is left out."""
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

    def score_of(self, id: str, terms: TermFrequencies) -> float:
        """What the index scores one document for a query (1, V); 0 if they share no codeword."""
        body = search_body(
            terms,
            layout=self.index.spec.layout,
            field=self.index.field,
            k=1,
            filter={"ids": {"values": [id]}},
            source=False,
        )
        found = self.cluster.request("POST", build_index_path(self.index.name, "/_search"), body=body)["hits"]["hits"]
        return float(found[0]["_score"]) if found else 0.0


def _failed(why: str) -> Hits:
    return Hits((), partial=bool(why), error=why)
