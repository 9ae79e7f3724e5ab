"""IndexQueries: the search methods of an index, and how they follow a name that moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.engine import MAX_HITS
from deepterms.encoders.arrays import Features, as_array
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import as_features, as_one_feature
from deepterms.errors import ClusterError, InvalidInput, RequestRejected
from deepterms.index.handle import MAX_REOPENINGS, confirm_state, read_again
from deepterms.index.reader import IndexReader
from deepterms.index.tuning import tune_index
from deepterms.inspection.explanation import Explanation, explain
from deepterms.results import Hit, Hits, StoredDocument
from deepterms.schema.aligned import read_id
from deepterms.schema.tuning import Tuning
from deepterms.search.filters import Filter
from deepterms.search.options import SearchKeywords, SearchOptions, check_effort
from deepterms.search.searcher import Searcher, SearchOutcome
from deepterms.search.widening import build_query_terms
from deepterms.terms import TermFrequencies
from deepterms.tuning.measurement import OnTuningProgress

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IndexQueries"]

DOCUMENTS_PER_PAGE = 2_000


class IndexQueries(IndexReader):
    """The methods of `SurrogateIndex` that search."""

    def search(self, feature: Features, **options: Unpack[SearchKeywords]) -> Hits:
        """Find the documents nearest to a descriptor.

        Candidates are found by shared codewords and, by default, re-ranked by exact cosine inside the cluster.

        Args:
            feature: the query descriptor, float32 (D,).
            k: number of hits, 1 to 10,000. Default: 10. For more hits see `search_all`.
            filter: any query of the engine's query language, such as ``{"term": {"metadata.year": 2018}}``, or a list
                of queries that must all match; only documents that match it are hits. For encoders whose queries have
                few codewords (pivots and pivot pairs) a narrow filter with re-ranking widens the query, and up to 2,000
                matching documents (10,000 where codewords would find too few; more with sketches or native comparison)
                are all compared exactly. This costs time and one request that counts matches, but not recall.
            rerank: number of candidates per shard to re-rank by exact cosine. 0 disables re-ranking: the score is then
                the dot product of term frequencies, as in the paper. Default: ``index.rerank``, set at creation (200;
                500 with pivots), or 0 if the index stores no vectors. In an index with native comparison, any other
                number than 0 compares all documents that share a codeword with the query.
            rerank_from: re-rank in the client instead, with the descriptors of a `FeatureStore` (or any object with a
                `features_of` method); ``rerank`` then counts the candidates of all shards together.
            effort: share of the query's codewords to search for, above 0 and at most 1, largest weights first. Lower
                values trade quality for speed. Default: 1.
            recall: share of the ten nearest documents to find: the cheapest setting measured to reach it is used (see
                `tune`), or all documents are compared. Default: the index's, if it was created with ``"auto"`` or
                tuned. ``rerank`` and ``effort`` override it.
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

    def search_many(self, features: Features, **options: Unpack[SearchKeywords]) -> list[Hits]:
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
        asked, given = SearchOptions(**options), as_array(features)
        array = self._check_features(lambda dimensions: as_features(given, dimensions=dimensions))
        return self._follow(lambda searcher: searcher.search_many(array, asked))

    def search_all(
        self,
        feature: Features,
        *,
        filter: Filter | None = None,
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

    def search_by_id(self, id: str | int, **options: Unpack[SearchKeywords]) -> Hits:
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
        asked, id = SearchOptions(**options), read_id(id)
        more = replace(asked, k=min(asked.k + 1, MAX_HITS))  # the document itself is among the hits
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

    def tune(
        self,
        *,
        recall: float | None = None,
        queries: Features | None = None,
        sample: int = 400,
        throttle: float = 0.0,
        state: str | Path | None = None,
        on_progress: OnTuningProgress | None = None,
        seed: int = 2018,
    ) -> Tuning:
        """Measure the recall and the milliseconds of searches, and store with the index what keeps a recall.

        The ten nearest documents of each query are found by comparing all documents, one search at a time. Half of the
        queries choose the cheapest setting for each recall, the other half verify it. From then on `search` uses the
        cheapest setting that keeps the recall, on every client that opens the index; other clients that hold it open
        follow after `reopen`. Call it after filling the index, and again when it has grown several times.

        Args:
            recall: share of the ten nearest documents that searches are to find by default. Default: that of the index,
                or .95.
            queries: descriptors to measure with, float32 (n, D), 20 or more. Default: documents of the index, which are
                then left out of their own neighbours. Pass queries like those of your users if they differ from
                documents.
            sample: number of documents to draw, at most 2,000.
            throttle: seconds to pause after each search, per second that it took: 1 leaves half of the time to others.
            state: a file in which neighbours are kept, so that an interrupted call resumes; delete it afterwards.
            on_progress: called with what is being done, how much of it is done and how much there is.
            seed: seed of the random draw of documents.

        Returns:
            The settings with their recall and milliseconds, cheapest first.

        Raises:
            InvalidInput: the index stores no vectors; there are too few documents or queries; an option is out of
                range; or the state is that of another index.
            IndexNotFound: the index no longer exists.
            ClusterError: the index was replaced meanwhile, or a shard did not answer.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected a request.
        """
        return tune_index(
            self,
            recall=recall,
            queries=queries,
            sample=sample,
            throttle=throttle,
            state=state,
            on_progress=on_progress,
            seed=seed,
        )

    def explain(self, id: str | int, feature: Features, *, effort: float = 1.0) -> Explanation:
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
        id, state = read_id(id), read_again(self)
        document = self._require_document(id)
        asked = build_query_terms(state.spec.encoder, self._check_one(feature), effort=effort)
        held = TermFrequencies.from_terms([document.terms], vocabulary_size=state.spec.encoder.vocabulary_size)
        return explain(id, query=asked, document=held, engine_score=self._searcher(state).fetch_score(id, asked))

    def _check_one(self, feature: Features) -> NDArray[np.float32]:
        """Validate one feature and return it as (1, D)."""
        given = as_array(feature)  # once, as it may be an iterator
        return self._check_features(lambda dimensions: as_one_feature(given, dimensions=dimensions))

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
        for _ in range(MAX_REOPENINGS):
            state = read_again(self)
            with self.cluster.point_in_time(self.name) as point:
                # The point in time is of the state's index only if the name pointed to it before and after.
                if confirm_state(self, strict=True).is_same_index(state):
                    for hits in self._searcher(state).read_pages(query, options, size=page, point=point):
                        yield from hits
                    return
        raise ClusterError(f"{self.name!r} was replaced {MAX_REOPENINGS} times during one search; search again")

    def _follow(self, search: Callable[[Searcher], SearchOutcome]) -> list[Hits]:
        """Search, and repeat the search if the answer came from another index than its queries were encoded for.

        After a migration, or if the index was deleted and created again, old queries find nothing or are rejected. Each
        attempt is checked against the state it was built for, which other threads may have replaced meanwhile.
        """
        state = self.state
        for _ in range(MAX_REOPENINGS):
            outcome: SearchOutcome | RequestRejected | InvalidInput
            try:
                outcome = search(self._searcher(state))
                certain = state.guards_queries and not outcome.doubtful and outcome.indices <= state.uuids.keys()
            except RequestRejected as error:
                if error.status not in (400, 404):
                    raise
                outcome, certain = error, False
            except InvalidInput as error:  # another index may be able to do what is asked
                outcome, certain = error, False
            now = state if certain else confirm_state(self, strict=True)
            if now.is_same_index(state):
                if isinstance(outcome, SearchOutcome):
                    return outcome.hits
                raise outcome
            state = now
        raise ClusterError(f"{self.name!r} was replaced {MAX_REOPENINGS} times during one search; search again")


def _build_query(document: StoredDocument, encoder: Encoder) -> TermFrequencies:
    """Turn the stored terms of a document into a query, (1, V)."""
    return TermFrequencies.from_terms([document.terms], vocabulary_size=encoder.vocabulary_size)
