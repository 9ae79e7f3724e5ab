"""IndexReader: a handle of an index to its searches, checks and statistics; everything that only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.cluster.index_names import index_path
from deepterms.cluster.responses import incomplete
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, as_one_feature
from deepterms.errors import ClusterError, InvalidInput, RequestRejected
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.inspection.explanation import Explanation, explain
from deepterms.inspection.reconciliation import Reconciliation, reconcile
from deepterms.inspection.statistics import DEFAULT_SAMPLE, MAX_SAMPLE, measure_stats
from deepterms.inspection.verification import Verification, verify
from deepterms.results import Hit, Hits, IndexStats, StoredDocument
from deepterms.schema.index_spec import IndexState
from deepterms.schema.stored_documents import stored_document
from deepterms.search.options import SearchKeywords, SearchOptions, check_effort
from deepterms.search.request import guard_clauses
from deepterms.search.searcher import Searcher, SearchOutcome
from deepterms.search.widening import build_query_terms
from deepterms.terms import TermFrequencies

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IndexReader"]

DOCUMENTS_PER_PAGE = 2_000


class IndexReader(IndexHandle):
    """The read-only half of `SurrogateIndex`; it needs no write privilege."""

    def search(self, feature: ArrayLike, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to a descriptor.

        Candidates are found by shared codewords and, by default, re-ranked by exact cosine inside the cluster.

        Args:
            feature: the query descriptor, float32 (D,).
            k: number of hits, 1 to 10,000. Default: 10. For more hits see `search_all`.
            filter: any query of the engine's query language, such as ``{"term": {"metadata.year": 2018}}``; only
                documents that match it are hits. For encoders whose queries have few codewords (pivots and pivot pairs)
                a narrow filter with re-ranking widens the query, and up to 2,000 matching documents (10,000 where
                codewords would find too few; more with sketches) are all compared exactly. This costs time and one
                request that counts matches, but not recall.
            rerank: number of candidates per shard to re-rank by exact cosine. 0 disables re-ranking: the score is then
                the dot product of term frequencies, as in the paper. Default: ``index.rerank``, set at creation (200;
                500 with pivots), or 0 if the index stores no vectors.
            rerank_from: re-rank in the client instead, with the descriptors of a `FeatureStore` (or any object with a
                `features_of` method); ``rerank`` then counts the candidates of all shards together.
            effort: share of the query's codewords to search for, above 0 and at most 1, largest weights first. Lower
                values trade quality for speed. Default: 1.
            min_score: drop hits below this score: a cosine with re-ranking, otherwise a dot product.
            fields: metadata fields to return, such as ``["path"]``. Default: all.

        Returns:
            At most k hits, best first. There are fewer when fewer documents share a codeword with the query and match
            the filter.

        Raises:
            InvalidInput: the feature has another shape, is all zero or has a NaN or infinite component; an option is
                out of range; re-ranking is requested but the index stores no vectors, or `rerank_from` lacks a
                candidate; or the query has more clauses than the cluster allows.
            IndexNotFound: the index no longer exists.
            ClusterError: `rerank_from` is given and a candidate was indexed without an explicit id; or the index was
                replaced repeatedly during the search.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        asked = SearchOptions(**options)
        query = self._check_one(feature)
        return self._follow(lambda searcher: searcher.search(query, asked))[0]

    def search_many(self, features: ArrayLike, **options: Unpack[SearchKeywords]) -> list[Hits]:
        """Run `search` for each of many descriptors, 32 per request.

        Args:
            features: the query descriptors, float32 (N, D).
            options: the options of `search`, applied to every query.

        Returns:
            N `Hits`, in the order of the features. A query that fails does not affect the others: its `Hits` are empty
            and partial, and ``error`` says why.

        Raises:
            InvalidInput: the features have another shape, or an option is out of range.
            IndexNotFound: the index no longer exists.
            RequestRejected: the engine rejected the filter.
        """
        asked = SearchOptions(**options)
        array = self._check_features(lambda dimensions: as_features(features, dimensions=dimensions))
        return self._follow(lambda searcher: searcher.search_many(array, asked))

    def search_all(
        self,
        feature: ArrayLike,
        *,
        filter: Mapping[str, Any] | None = None,
        effort: float = 1.0,
        min_score: float | None = None,
        fields: Sequence[str] | None = None,
        page: int = DOCUMENTS_PER_PAGE,
    ) -> Iterator[Hit]:
        """Iterate over every document that shares a codeword with a descriptor, without re-ranking and without limit.

        Hits are ordered by dot product of term frequencies, best first, and then by id. The iterator sees the index as
        it was when the first hit was requested. The engine scores all documents again for each page, so larger pages
        are faster.

        Args:
            feature: the query descriptor, float32 (D,).
            filter: as in `search`.
            effort: as in `search`.
            min_score: stop before the first hit below this dot product.
            fields: as in `search`.
            page: hits per request, at most 10,000.

        Returns:
            An iterator of hits; it sends a request when it needs the next page.

        Raises:
            InvalidInput: as in `search`.
            IndexNotFound: the index no longer exists.
            ClusterError: a page is incomplete, or a document without an explicit id makes the order ambiguous.
            UnsupportedEngine: the engine is OpenSearch before 2.4.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        options = SearchOptions(k=page, filter=filter, rerank=0, effort=effort, min_score=min_score, fields=fields)
        query = self._check_one(feature)
        return self._iterate_all(query, options, page)

    def search_by_id(self, id: str, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to an indexed document, excluding that document.

        Args:
            id: id of the document, which must be visible to search (refreshed).
            options: the options of `search`. With ``rerank_from``, the document's own descriptor is read from it too.

        Returns:
            At most k hits, best first. Without a stored vector for the document, its terms are the query and hits are
            not re-ranked.

        Raises:
            InvalidInput: no document has this id, or as in `search`.
            IndexNotFound, ClusterError, ClusterUnreachable, RequestRejected: as in `search`.
        """
        asked = SearchOptions(**options)
        more = replace(asked, k=asked.k + 1)  # the document itself is among the hits
        document = self._require_document(id)
        vector = document.vector if asked.rerank_from is None else asked.rerank_from.features_of([id])
        if vector is None:
            (hits,) = self._follow(
                lambda searcher: searcher.search(None, more, terms=_build_query(document, searcher.encoder))
            )
        else:
            query = self._check_one(vector)
            (hits,) = self._follow(lambda searcher: searcher.search(query, more))
        return replace(hits, hits=tuple(hit for hit in hits if hit.id != id)[: asked.k])

    def explain(self, id: str, feature: ArrayLike, *, effort: float = 1.0) -> Explanation:
        """Explain a score: the codewords that a document shares with a descriptor, and what each contributes.

        Args:
            id: id of the document, which must be visible to search (refreshed).
            feature: the query descriptor, float32 (D,).
            effort: as in `search`.

        Returns:
            The shared codewords with query weight, term frequency and product, largest product first; ``agrees`` is
            true if the products sum to the cluster's own score before re-ranking.

        Raises:
            InvalidInput: no document has this id, the feature has another shape or no direction, or effort is out of
                range.
            IndexNotFound: the index no longer exists.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        check_effort(effort)
        state = read_again(self)
        document = self._require_document(id)
        asked = build_query_terms(state.spec.encoder, self._check_one(feature), effort=effort)
        held = TermFrequencies.from_terms([document.terms], vocabulary_size=state.spec.encoder.vocabulary_size)
        return explain(id, query=asked, document=held, engine_score=self._searcher(state).fetch_score(id, asked))

    def verify(self, *, sample: int = 100, seed: int = 2018) -> Verification:
        """Check that the cluster scores exactly: compare its scores of a sample with scores computed in the client.

        Each of n sampled documents is a query for all n: n² dot products and, if vectors are stored, n² cosines at
        most. Each query is also run against the whole index, whose ten best hits must not miss a sampled document. Do
        not write to the index during the check.

        Args:
            sample: number of documents to draw, 1 to 1,000.
            seed: seed of the random draw; the same seed draws the same documents while nothing is written.

        Returns:
            The number of comparisons, and every difference; ``ok`` is true if there is none.

        Raises:
            InvalidInput: sample is out of range.
            IndexNotFound: the index no longer exists.
            ClusterError: a search failed, or a shard did not answer.
        """
        return verify(self._searcher(read_again(self)), sample=sample, seed=seed)

    def get(self, id: str) -> StoredDocument | None:
        """Read one document as stored.

        Args:
            id: id of the document, which must be visible to search (refreshed).

        Returns:
            Its terms, vector, metadata and revision; None if no document has this id.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
        """
        state = self.state
        for _ in range(MAX_REOPENINGS):
            # With the guard clause nothing matches in another index, whose vectors may have another type.
            matching: dict[str, Any] = {"bool": {"filter": [{"ids": {"values": [id]}}, *guard_clauses(state)]}}
            body: dict[str, Any] = {
                "query": matching,
                "_source": ["terms", "metadata"],
                "seq_no_primary_term": True,
            }
            if state.spec.stores_vectors:
                body["docvalue_fields"] = ["vector"]
            answer = self.cluster.request("POST", index_path(self.name, "/_search"), body=body)
            hits = answer["hits"]["hits"]
            if hits and state.guards_queries:
                break
            now = confirm_state(self)
            if now.is_same_index(state):
                break
            state = now
        if not hits:
            return None
        return stored_document(hits[0], state.spec.vector_type, dimensions=state.spec.encoder.dimensions)

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """Count the documents that are visible to search (refreshed).

        Args:
            filter: count only documents that match this query; see `search`.

        Raises:
            IndexNotFound: the index no longer exists.
            ClusterError: a shard did not answer.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the filter.
        """
        body = {"query": filter} if filter is not None else None
        answer = self.cluster.request("POST", index_path(self.name, "/_count"), body=body)
        if incomplete(answer):
            raise ClusterError(f"a shard of {self.name!r} did not answer while documents were counted; try again")
        return int(answer["count"])

    def reconcile(self, ids: Iterable[str]) -> Reconciliation:
        """Compare the index with the ids it should hold: which are missing, and which are extra.

        Documents are found whether refreshed or not. Those that others write or delete during the call
        may be reported either way.

        Args:
            ids: the ids of all documents that should be in the index, in any order; duplicates count once. The stream
                is read once, keeping 8 bytes per id.

        Returns:
            Both counts, and up to 100,000 ids of each kind; ``equal`` is true if there are none.

        Raises:
            InvalidInput: ids is a single string.
            IndexNotFound: the index no longer exists.
            ClusterError: a shard did not answer, so the result would be uncertain.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        confirm_state(self)
        return reconcile(self.cluster, self.name, ids)

    def stats(self, *, sample: int = DEFAULT_SAMPLE) -> IndexStats:
        """Measure the size of the index and the work of a search; needs the ``monitor`` privilege on the index.

        Args:
            sample: number of documents whose stored terms are read, 1 to 10,000. Figures about posting lists are
                estimated from them; they are exact if the sample holds all documents.

        Returns:
            Documents, bytes on disk, segments, posting-list lengths, postings per query and mean query time.

        Raises:
            InvalidInput: sample is out of range.
            IndexNotFound: the index no longer exists.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        if not 1 <= sample <= MAX_SAMPLE:
            raise InvalidInput(f"sample is {sample}; expected 1 to {MAX_SAMPLE:,} documents")
        state = confirm_state(self)
        return measure_stats(
            self.cluster,
            self.name,
            encoder=state.spec.encoder,
            documents=self.count(),
            sample=sample,
            vector_type=state.spec.vector_type,
        )

    def _searcher(self, state: IndexState) -> Searcher:
        return Searcher(self.cluster, state, self.counts)

    def _check_one(self, feature: ArrayLike) -> NDArray[np.float32]:
        """Validate one feature and return it as (1, D)."""
        return self._check_features(lambda dimensions: as_one_feature(feature, dimensions=dimensions))

    def _check_features(self, check: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Validate features; if they do not fit, retry once in case the index has been replaced."""
        state = self.state
        try:
            return check(state.spec.encoder.dimensions)
        except InvalidInput:
            now = confirm_state(self)
            if now.spec.encoder.dimensions == state.spec.encoder.dimensions:
                raise
            return check(now.spec.encoder.dimensions)

    def _require_document(self, id: str) -> StoredDocument:
        document = self.get(id)
        if document is None:
            raise InvalidInput(f"no document {id!r} in {self.name!r}; if it was just added, call refresh() first")
        return document

    def _iterate_all(self, query: NDArray[np.float32], options: SearchOptions, page: int) -> Iterator[Hit]:
        for hits in self._searcher(read_again(self)).read_pages(query, options, size=page):
            yield from hits

    def _follow(self, search: Callable[[Searcher], SearchOutcome]) -> list[Hits]:
        """Search, and repeat the search if the answer came from another index than its queries were encoded for.

        After a migration, or if the index was deleted and created again, old queries find nothing or are rejected. Each
        attempt is checked against the state it was built for, which other threads may have replaced meanwhile.
        """
        state = self.state
        for _ in range(MAX_REOPENINGS):
            outcome: SearchOutcome | RequestRejected
            try:
                outcome = search(self._searcher(state))
                certain = state.guards_queries and not outcome.doubtful and outcome.indices <= state.uuids.keys()
            except RequestRejected as error:
                if error.status not in (400, 404):
                    raise
                outcome, certain = error, False
            now = state if certain else confirm_state(self)
            if now.is_same_index(state):
                if isinstance(outcome, RequestRejected):
                    raise outcome
                return outcome.hits
            state = now
        raise ClusterError(f"{self.name!r} was replaced {MAX_REOPENINGS} times during one search; search again")


def _build_query(document: StoredDocument, encoder: Encoder) -> TermFrequencies:
    """Turn the stored terms of a document into a query, (1, V)."""
    return TermFrequencies.from_terms([document.terms], vocabulary_size=encoder.vocabulary_size)
