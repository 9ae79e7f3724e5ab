"""One query as a request: its body, and the hits read from the answer."""

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
from deepterms.search.body import clause_count, exact_body, search_body
from deepterms.search.options import SearchOptions, source_fields
from deepterms.search.rerank import cosines, rescore
from deepterms.terms import TermFrequencies

__all__ = ["Search", "above", "guard_clauses", "indices_of"]


@dataclass(frozen=True)
class Search:
    """One query, ready to be sent.

    Attributes:
        body: of the request.
        options: what was asked.
        query: float32 (D,), L2-normalised; None where only terms are known.
        terms: that are sent, (1, V); None where all documents of a filter are compared.
        rescored: the scores of the answer are cosines plus the script's offset.
        candidates: the answer holds candidates by id, to be re-ranked here.
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
        """Write the body of a search by codewords.

        Args:
            terms: of the query, (1, V), as many as its effort asks for.
            query: float32 (D,), L2-normalised; without it there is no re-ranking.
            index: that is searched.
            options: as asked.

        Raises:
            InvalidInput: re-ranking is asked of an index without vectors.
        """
        spec, window = index.spec, 0
        if query is not None:
            window = options.window(stores_vectors=spec.stores_vectors, usual=spec.candidates)
        local = bool(window) and options.rerank_from is not None
        rescored = bool(window) and not local
        steps = None
        if rescored and query is not None and spec.compared_by is not None:
            kept = count_survivors(options.k) if spec.sketch else None
            steps = rescore(query, window=window, vector_type=spec.compared_by, kept=kept)
        body = search_body(
            terms,
            layout=spec.layout,
            field=index.field,
            k=window if local else options.k,
            filter=options.filter,
            rescore=steps,
            source=False if local else source_fields(options.fields),
        )
        if local:
            # A stored field per hit would cost more than the search: the id is a doc value as well.
            body |= {"stored_fields": "_none_", "docvalue_fields": ["id"]}
        return cls(body, options, query, terms=terms, rescored=rescored, candidates=local)

    @classmethod
    def exact(
        cls, query: NDArray[np.float32], *, index: IndexState, options: SearchOptions, sketched: bool = False
    ) -> Search:
        """Compare every document that the filter keeps with the query.

        Args:
            query: float32 (D,), L2-normalised.
            index: that is searched; it stores vectors.
            options: as asked, with a filter.
            sketched: compare them by their sketches, and the best of them by their vectors.

        Raises:
            InvalidInput: the index stores no vectors.
        """
        compared_by = index.spec.compared_by
        if compared_by is None:
            raise InvalidInput("the index stores no vectors, so documents cannot be compared exactly")
        matching = {"bool": {"filter": [options.filter, *guard_clauses(index)]}}  # not scored
        body = exact_body(
            score_by_sketch(query, matching) if sketched else score_by_cosine(query, matching, vector_type=compared_by),
            k=options.k,
            rescore=rescore(query, window=count_survivors(options.k, far=True), vector_type=compared_by)
            if sketched
            else None,
            source=source_fields(options.fields),
        )
        return cls(body, options, query, rescored=True)

    @property
    def clauses(self) -> int:
        """How many clauses the query has, its filter's included."""
        return clause_count(self.body["query"])

    def hits(self, answer: Mapping[str, Any]) -> Hits:
        """The hits of an answer; of candidates, ids with their first scores.

        Raises:
            ClusterError: a candidate has no id of its own.
        """
        found = answer["hits"]["hits"]
        offset = COSINE_OFFSET if self.rescored else 0.0
        if self.candidates and not all("id" in hit.get("fields", {}) for hit in found):
            raise ClusterError(
                "a candidate was indexed without an id of its own, so no feature store can hold its descriptor; give "
                "such documents ids, or leave rerank_from out"
            )
        hits = (
            Hit(
                hit["fields"]["id"][0] if self.candidates else hit["_id"],
                hit["_score"] - offset,
                hit.get("_source", {}).get("metadata", {}),
            )
            for hit in found
        )
        read = Hits(tuple(hits), took_ms=float(answer["took"]), partial=is_incomplete(answer), terms=self.terms)
        return read if self.candidates else above(read, self.options.min_score)

    def reranked(self, candidates: Hits) -> Hits:
        """The k best of the candidates, by exact cosine with descriptors on this side; equal ones by id.

        Raises:
            InvalidInput: the source lacks one of them.
        """
        source = self.options.rerank_from
        if source is None or self.query is None or not candidates:
            return candidates
        scores = cosines(self.query, source, candidates.ids).tolist()
        best = sorted(zip(candidates.ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))[: self.options.k]
        hits = replace(candidates, hits=tuple(Hit(identifier, score) for identifier, score in best))
        return above(hits, self.options.min_score)


def guard_clauses(index: IndexState) -> list[dict[str, Any]]:
    """Clauses under which nothing matches in another index than the one that a search was written for."""
    return [{"exists": {"field": index.field}}] if index.guards_queries else []


def above(hits: Hits, min_score: float | None) -> Hits:
    """The hits that reach a score. They are the first of them: asking the engine would switch its pruning off."""
    if min_score is None:
        return hits
    return replace(hits, hits=tuple(hit for hit in hits if hit.score >= min_score))


def indices_of(answer: Mapping[str, Any]) -> set[str]:
    """The concrete indices that the hits of an answer are from."""
    return {hit["_index"] for hit in answer["hits"]["hits"]}
