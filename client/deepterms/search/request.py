"""Search: one query turned into a request body, and the response into hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Hit, Hits
from deepterms.schema.index_spec import IndexState
from deepterms.schema.scripts import COSINE_OFFSET, score_by_cosine, score_by_sketch
from deepterms.schema.sketches import count_survivors
from deepterms.search.body import count_clauses, exact_body, list_body_query, search_body
from deepterms.search.native import MAX_NATIVE_HITS, count_rescored, list_codewords, native_body
from deepterms.search.options import SearchOptions, source_fields
from deepterms.search.rerank import compute_cosines, rescore
from deepterms.terms import TermFrequencies

__all__ = ["Search", "drop_below", "guard_clauses", "list_indices"]

# Reading a stored field per hit would cost more than the search; the id is also a doc value.
_ONLY_IDS: Mapping[str, Any] = {"stored_fields": "_none_", "docvalue_fields": ["id"]}


@dataclass(frozen=True)
class Search:
    """One query, ready to send.

    Attributes:
        body: body of the request.
        options: options of the search.
        query: the descriptor, float32 (D,), L2-normalised; None if only terms are known.
        terms: the term frequencies sent, (1, V); None if all documents of a filter are compared exactly.
        rescored: whether the response's scores are cosines plus the script's offset.
        candidates: whether the response holds candidates by id, to be re-ranked in the client.
    """

    body: dict[str, Any]
    options: SearchOptions
    query: NDArray[np.float32] | None
    terms: TermFrequencies | None = None
    rescored: bool = False
    candidates: bool = False

    @classmethod
    def build(
        cls, terms: TermFrequencies, query: NDArray[np.float32] | None, *, index: IndexState, options: SearchOptions
    ) -> Search:
        """Build a search by codewords.

        Args:
            terms: term frequencies of the query, (1, V), already truncated to its effort.
            query: the descriptor, float32 (D,), L2-normalised; without it hits are not re-ranked.
            index: state of the index.
            options: options of the search.

        Raises:
            InvalidInput: re-ranking is requested but the index stores no vectors.
        """
        spec, window = index.spec, 0
        if query is not None:
            window = options.count_candidates(stores_vectors=spec.stores_vectors, default=spec.candidates)
        local = bool(window) and options.rerank_from is not None
        rescored = bool(window) and not local
        if window and query is not None and spec.is_native:
            codewords = list_codewords(terms, field=index.field)
            return cls._compare_natively(query, [codewords], index=index, options=options, terms=terms, window=window)
        steps = None
        if rescored and query is not None and spec.compared_by is not None:
            kept = count_survivors(options.k) if spec.sketch else None
            steps = rescore(query, window=window, vector_type=spec.compared_by, kept=kept)
        body = search_body(
            terms,
            layout=spec.layout,
            field=index.field,
            k=window if local else options.k,
            filter=options.plain_filter,
            rescore=steps,
            source=False if local else source_fields(options.fields),
        )
        if local:
            body |= _ONLY_IDS
        return cls(body, options, query, terms=terms, rescored=rescored, candidates=local)

    @classmethod
    def exact(
        cls, query: NDArray[np.float32], *, index: IndexState, options: SearchOptions, sketched: bool = False
    ) -> Search:
        """Build a search that compares every document of the filter with the query.

        Args:
            query: the descriptor, float32 (D,), L2-normalised.
            index: state of the index, which stores vectors.
            options: options of the search; without a filter, all documents are compared.
            sketched: compare documents by sketch first, and only the best of them by vector.

        Raises:
            InvalidInput: the index stores no vectors.
        """
        compared_by = index.spec.compared_by
        if compared_by is None:
            raise InvalidInput("the index stores no vectors, so documents cannot be compared exactly")
        if index.spec.is_native:
            return cls._compare_natively(query, guard_clauses(index), index=index, options=options)
        kept = {"match_all": {}} if options.plain_filter is None else options.plain_filter
        matching = {"bool": {"filter": [kept, *guard_clauses(index)]}}  # not scored
        body = exact_body(
            score_by_sketch(query, matching) if sketched else score_by_cosine(query, matching, vector_type=compared_by),
            k=options.k,
            rescore=rescore(query, window=count_survivors(options.k, far=True), vector_type=compared_by)
            if sketched
            else None,
            source=source_fields(options.fields),
        )
        return cls(body, options, query, rescored=True)

    @classmethod
    def listed(
        cls, terms: TermFrequencies, query: NDArray[np.float32], *, index: IndexState, options: SearchOptions
    ) -> Search:
        """Build a search that compares every document that shares a codeword with the query.

        Args:
            terms: term frequencies of the query, (1, V).
            query: the descriptor, float32 (D,), L2-normalised.
            index: state of the index, which stores vectors.
            options: options of the search.

        Raises:
            InvalidInput: the index stores no vectors.
        """
        compared_by = index.spec.compared_by
        if compared_by is None:
            raise InvalidInput("the index stores no vectors, so documents cannot be compared exactly")
        if index.spec.is_native:
            among = [list_codewords(terms, field=index.field)]
            return cls._compare_natively(query, among, index=index, options=options, terms=terms)
        (named,) = terms.to_terms()
        matching = list_body_query(named, layout=index.spec.layout, field=index.field, filter=options.plain_filter)
        body = exact_body(
            score_by_cosine(query, matching, vector_type=compared_by), k=options.k, source=source_fields(options.fields)
        )
        return cls(body, options, query, terms=terms, rescored=True)

    @classmethod
    def _compare_natively(
        cls,
        query: NDArray[np.float32],
        among: list[dict[str, Any]],
        *,
        index: IndexState,
        options: SearchOptions,
        terms: TermFrequencies | None = None,
        window: int = 0,
    ) -> Search:
        """Build a search of an index that compares natively, among the documents of these clauses and the filter."""
        if options.k > MAX_NATIVE_HITS:
            raise InvalidInput(f"k is {options.k}; expected at most {MAX_NATIVE_HITS:,}. For more hits see search_all")
        local = options.rerank_from is not None
        found = min(window, MAX_NATIVE_HITS) if local else count_rescored(options.k)
        body = native_body(
            query,
            among=among if options.plain_filter is None else [*among, options.plain_filter],
            k=found if local else options.k,
            found=found,
            exact=not local,
            source=False if local else source_fields(options.fields),
        )
        if local:
            body |= _ONLY_IDS
        return cls(body, options, query, terms=terms, rescored=not local, candidates=local)

    @property
    def clauses(self) -> int:
        """Number of clauses of the query, including its filter's."""
        query = self.body["query"]
        return count_clauses(query.get("script_score", {}).get("query", query))

    def read_hits(self, answer: Mapping[str, Any]) -> Hits:
        """Read the hits of a response; for candidates, ids with their scores before re-ranking.

        Raises:
            ClusterError: a candidate was indexed without an explicit id.
        """
        found = answer["hits"]["hits"]
        offset = COSINE_OFFSET if self.rescored else 0.0
        if self.candidates and not all("id" in hit.get("fields", {}) for hit in found):
            raise ClusterError(
                "a candidate was indexed without an explicit id, so rerank_from cannot hold its descriptor; index such "
                "documents with explicit ids, or search without rerank_from"
            )
        hits = (
            Hit(
                hit["fields"]["id"][0] if self.candidates else hit["_id"],
                hit["_score"] - offset,
                hit.get("_source", {}).get("metadata", {}),
            )
            for hit in found
        )
        read = Hits(
            tuple(hits),
            took_ms=float(answer["took"]),
            partial=is_incomplete(answer),
            terms=self.terms,
            recall=self._promised,
        )
        return read if self.candidates else drop_below(read, self.options.min_score)

    @property
    def _promised(self) -> float | None:
        setting = self.options.setting
        return None if setting is None else setting.recall

    def rerank(self, candidates: Hits) -> Hits:
        """Return the best k candidates by exact cosine with descriptors in the client, equal cosines by id.

        Raises:
            InvalidInput: `rerank_from` lacks a candidate.
        """
        source = self.options.rerank_from
        if source is None or self.query is None or not candidates:
            return candidates
        scores = compute_cosines(self.query, source, candidates.ids).tolist()
        best = sorted(zip(candidates.ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))[: self.options.k]
        hits = replace(candidates, hits=tuple(Hit(identifier, score) for identifier, score in best))
        return drop_below(hits, self.options.min_score)


def guard_clauses(index: IndexState) -> list[dict[str, Any]]:
    """Build clauses that match nothing in another index than the one the search was built for."""
    return [{"exists": {"field": index.field}}] if index.guards_queries else []


def drop_below(hits: Hits, min_score: float | None) -> Hits:
    """Drop hits below a score. Done in the client, since the engine's ``min_score`` would disable its pruning."""
    if min_score is None:
        return hits
    return replace(hits, hits=tuple(hit for hit in hits if hit.score >= min_score))


def list_indices(answer: Mapping[str, Any]) -> set[str]:
    """List the concrete indices that the hits of a response come from."""
    return {hit["_index"] for hit in answer["hits"]["hits"]}
