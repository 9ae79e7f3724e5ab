"""IndexReader: searches of one index in a cluster, and all else that leaves it as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import is_incomplete
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, as_one_feature
from deepterms.errors import ClusterError, InvalidInput, RequestRejected
from deepterms.index.handle import MAX_REOPENINGS, IndexHandle, confirm_state, read_again
from deepterms.inspection.explanation import Explanation, explain
from deepterms.inspection.reconciliation import Reconciliation, reconcile
from deepterms.inspection.statistics import DEFAULT_SAMPLE, MAX_SAMPLE, cluster_stats
from deepterms.inspection.verification import Verification, verify
from deepterms.results import Hit, Hits, IndexStats, StoredDocument
from deepterms.schema.index_spec import IndexState
from deepterms.schema.stored_documents import read_stored_document
from deepterms.search.options import SearchKeywords, SearchOptions, check_effort
from deepterms.search.request import guard_clauses
from deepterms.search.searcher import Searcher, SearchOutcome
from deepterms.search.widening import query_terms
from deepterms.terms import TermFrequencies

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IndexReader"]

DOCUMENTS_PER_PAGE = 2_000


class IndexReader(IndexHandle):
    """The half of `SurrogateIndex` that needs no right to write."""

    def search(self, feature: ArrayLike, **options: Unpack[SearchKeywords]) -> Hits:
        """The documents nearest to a descriptor.

        Args:
            feature: float32 (D,).
            k: how many hits, at most 10,000; for more see `search_all`.
            filter: any query of the engine's language, such as ``{"term": {"metadata.year": 2018}}``. Where an
                encoder's queries name few codewords (pivots, their pairs) and hits are re-ranked, a narrow filter makes
                the query name more, and up to 2,000 documents that it keeps (10,000 where codewords would find too few)
                are all compared exactly: it costs time, not recall, and one more request that counts.
            rerank: how many candidates of each shard are re-ranked by exact cosine inside the cluster. 0: none, the
                score is the paper's dot product of term frequencies. Default: ``index.rerank``, chosen when it was made
                (200; 500 with pivots), if there are vectors, else 0.
            rerank_from: re-rank on this side instead, by the descriptors that a `FeatureStore` (or anything with its
                `features_of`) holds; ``rerank`` then counts the candidates of all shards together.
            effort: the share of the query's codewords that is asked for, the largest first: time against quality.
            min_score: leave out hits below this score (a cosine with re-ranking, else a dot product).
            fields: which fields of the metadata to return, such as ``["path"]``; default: all.

        Returns:
            At most k hits, best first; fewer when fewer documents share a codeword with the query.

        Raises:
            InvalidInput: a feature of another shape or without direction, an option out of range, re-ranking asked
                of an index without vectors or of a store that lacks a candidate, or more clauses than the cluster
                allows.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        asked = SearchOptions(**options)
        query = self._one(feature)
        return self._follow(lambda searcher: searcher.search(query, asked))[0]

    def search_many(self, features: ArrayLike, **options: Unpack[SearchKeywords]) -> list[Hits]:
        """`search` for each of many descriptors, a bounded number of them in one request.

        Args:
            features: float32 (N, D).
            options: those of `search`, for all of them.

        Returns:
            N hits in the order of the features. A query that fails loses no other: it has no hits, and ``error`` says
            why.

        Raises:
            InvalidInput: features of another shape, or an option out of range.
            RequestRejected: the engine cannot read the filter.
        """
        asked = SearchOptions(**options)
        array = self._checked(lambda dimensions: as_features(features, dimensions=dimensions))
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
        """Every document that shares a codeword with a descriptor, by the paper's score and then by id; no k, no limit.

        The index is seen as it is when the first hit is asked for. The engine scores all documents again for each page,
        so a large page is quicker.

        Args:
            feature: float32 (D,).
            filter: as in `search`.
            effort: as in `search`.
            min_score: stop before the first hit below this dot product.
            fields: as in `search`.
            page: hits a request, at most 10,000.

        Raises:
            InvalidInput: as `search`.
            ClusterError: a page is not whole, or a document has no id of its own to order equal scores by.
            UnsupportedEngine: OpenSearch before 2.4.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        options = SearchOptions(k=page, filter=filter, rerank=0, effort=effort, min_score=min_score, fields=fields)
        query = self._one(feature)
        return self._all(query, options, page)

    def search_by_id(self, id: str, **options: Unpack[SearchKeywords]) -> Hits:
        """The documents nearest to one that is in the index; that one itself is left out.

        Args:
            id: of the document, which must be visible to search (refreshed).
            options: those of `search`; with ``rerank_from``, the document's own descriptor is taken from there too.

        Raises:
            InvalidInput: no such document, or as in `search`.
        """
        asked = SearchOptions(**options)
        more = replace(asked, k=asked.k + 1)  # the document itself is among the hits
        document = self._known(id)
        vector = document.vector if asked.rerank_from is None else asked.rerank_from.features_of([id])
        if vector is None:
            (hits,) = self._follow(
                lambda searcher: searcher.search(None, more, terms=_terms(document, searcher.encoder))
            )
        else:
            query = self._one(vector)
            (hits,) = self._follow(lambda searcher: searcher.search(query, more))
        return replace(hits, hits=tuple(hit for hit in hits if hit.id != id)[: asked.k])

    def explain(self, id: str, feature: ArrayLike, *, effort: float = 1.0) -> Explanation:
        """Which codewords a document shares with a descriptor, and what each adds to its score.

        Args:
            id: of the document, which must be visible to search (refreshed).
            feature: float32 (D,).
            effort: as in `search`.

        Returns:
            The codewords with weight, frequency and product; ``agrees`` says whether the cluster's own score is their
            sum.

        Raises:
            InvalidInput: no such document, or as in `search`.
        """
        check_effort(effort)
        state = read_again(self)
        document = self._known(id)
        asked = query_terms(state.spec.encoder, self._one(feature), effort=effort)
        held = TermFrequencies.from_terms([document.terms], vocabulary_size=state.spec.encoder.vocabulary_size)
        return explain(id, query=asked, document=held, engine_score=self._searcher(state).score_of(id, asked))

    def verify(self, *, sample: int = 100, seed: int = 2018) -> Verification:
        """Compare the cluster's scores of sampled documents with the same scores computed here.

        Each sampled document is a query for all of them: dot products, cosines if vectors are stored, and the ten best
        of the whole index. Do not write to the index meanwhile.

        Args:
            sample: how many documents, at most 1,000.
            seed: which ones.

        Returns:
            How much was compared, and every difference; ``ok`` if there is none.

        Raises:
            InvalidInput: a sample out of range.
            ClusterError: a search failed, or lacks a shard.
        """
        return verify(self._searcher(read_again(self)), sample=sample, seed=seed)

    def get(self, id: str) -> StoredDocument | None:
        """One document as the index holds it, or None; it must be visible to search (refreshed)."""
        state = self.state
        for _ in range(MAX_REOPENINGS):
            # The clause lets nothing match in another index: its vectors may be of another type.
            matching: dict[str, Any] = {"bool": {"filter": [{"ids": {"values": [id]}}, *guard_clauses(state)]}}
            body: dict[str, Any] = {
                "query": matching,
                "_source": ["terms", "metadata"],
                "seq_no_primary_term": True,
            }
            if state.spec.stores_vectors:
                body["docvalue_fields"] = ["vector"]
            answer = self.cluster.request("POST", build_index_path(self.name, "/_search"), body=body)
            hits = answer["hits"]["hits"]
            if hits and state.guards_queries:
                break
            now = confirm_state(self)
            if now.is_same_index(state):
                break
            state = now
        if not hits:
            return None
        return read_stored_document(hits[0], state.spec.vector_type, dimensions=state.spec.encoder.dimensions)

    def count(self, *, filter: Mapping[str, Any] | None = None) -> int:
        """How many documents are visible to search, in all or of those that match a filter."""
        body = {"query": filter} if filter is not None else None
        answer = self.cluster.request("POST", build_index_path(self.name, "/_count"), body=body)
        if is_incomplete(answer):
            raise ClusterError(f"a shard of {self.name!r} did not answer while documents were counted; try again")
        return int(answer["count"])

    def reconcile(self, ids: Iterable[str]) -> Reconciliation:
        """Which of the documents that should be in the index are missing, and which are there beyond them.

        Args:
            ids: of all that should be there; read once, 8 bytes an id are kept.

        Returns:
            Both counts, and up to 100,000 ids of each kind. What others write meanwhile may be reported either way.

        Raises:
            InvalidInput: ids is one text.
            ClusterError: a shard did not answer, so that nothing certain can be said.
        """
        confirm_state(self)
        return reconcile(self.cluster, self.name, ids)

    def stats(self, *, sample: int = DEFAULT_SAMPLE) -> IndexStats:
        """How large the index is, and what a search has to read of it; needs the right to monitor the index.

        Args:
            sample: how many documents' stored terms are read, 1 to 10,000; the rest of them is estimated.

        Raises:
            InvalidInput: a sample out of range.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        if not 1 <= sample <= MAX_SAMPLE:
            raise InvalidInput(f"sample is {sample}; expected 1 to {MAX_SAMPLE:,} documents")
        state = confirm_state(self)
        return cluster_stats(
            self.cluster,
            self.name,
            encoder=state.spec.encoder,
            documents=self.count(),
            sample=sample,
            vector_type=state.spec.vector_type,
        )

    def _searcher(self, state: IndexState) -> Searcher:
        return Searcher(self.cluster, state, self.counts)

    def _one(self, feature: ArrayLike) -> NDArray[np.float32]:
        """One feature as (1, D)."""
        return self._checked(lambda dimensions: as_one_feature(feature, dimensions=dimensions))

    def _checked(self, check: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Features that fit the index; if they do not, it may be another one by now."""
        state = self.state
        try:
            return check(state.spec.encoder.dimensions)
        except InvalidInput:
            now = confirm_state(self)
            if now.spec.encoder.dimensions == state.spec.encoder.dimensions:
                raise
            return check(now.spec.encoder.dimensions)

    def _known(self, id: str) -> StoredDocument:
        document = self.get(id)
        if document is None:
            raise InvalidInput(f"no document {id!r} in {self.name!r}; if it was added just now, call refresh() first")
        return document

    def _all(self, query: NDArray[np.float32], options: SearchOptions, page: int) -> Iterator[Hit]:
        for hits in self._searcher(read_again(self)).pages(query, options, size=page):
            yield from hits

    def _follow(self, search: Callable[[Searcher], SearchOutcome]) -> list[Hits]:
        """Search until the index that the queries were encoded for has answered them.

        A name may have moved by a migration, or the index may have been deleted and created again: its queries then
        find nothing, or are rejected. Each try is judged by the state that it was made for, whatever other threads have
        learnt meanwhile.
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


def _terms(document: StoredDocument, encoder: Encoder) -> TermFrequencies:
    """The terms of a document as a query, (1, V)."""
    return TermFrequencies.from_terms([document.terms], vocabulary_size=encoder.vocabulary_size)
