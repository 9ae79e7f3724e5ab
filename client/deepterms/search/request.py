"""Searches: what is asked of one query, checked; the body that asks it; and the hits read from the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.responses import incomplete
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Hit, Hits
from deepterms.schema.layouts import Layout
from deepterms.schema.scripts import COSINE_OFFSET, ComparedBy, score_by_cosine, score_by_sketch
from deepterms.schema.sketches import survivors
from deepterms.search.body import clause_count, exact_body, search_body
from deepterms.search.rerank import DEFAULT_RERANK, FeatureSource, cosines, rerank_window, rescore
from deepterms.terms import TermFrequencies

__all__ = ["Search", "SearchKeywords", "SearchOptions", "above", "chosen_fields", "indices_of", "source_fields"]


class SearchKeywords(TypedDict, total=False):
    """What the search methods are given by name; they are the fields of `SearchOptions`, and so are the defaults."""

    k: int
    filter: Mapping[str, Any] | None
    rerank: int | None
    rerank_from: FeatureSource | None
    effort: float
    min_score: float | None
    fields: Sequence[str] | None


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a search beside the query.

    Attributes:
        k: how many hits.
        filter: any query of the engine.
        rerank: how many candidates; None for what the index re-ranks usually.
        rerank_from: descriptors on this side to re-rank by.
        effort: the share of the query's codewords that is asked for, the largest first.
        min_score: hits below it are left out.
        fields: of the metadata, to be returned; None for all of it.

    Raises:
        InvalidInput: one of them is out of range.
    """

    k: int = 10
    filter: Mapping[str, Any] | None = None
    rerank: int | None = None
    rerank_from: FeatureSource | None = None
    effort: float = 1.0
    min_score: float | None = None
    fields: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.effort <= 1:
            raise InvalidInput(f"effort is {self.effort}; expected more than 0, at most 1: the share of codewords kept")
        if self.min_score is not None and math.isnan(self.min_score):
            raise InvalidInput("min_score is NaN; expected a number, or None")
        if isinstance(self.fields, str):
            raise InvalidInput(f"fields is one text, {self.fields!r}; expected a sequence of names of metadata fields")
        if bad := [name for name in self.fields or () if not isinstance(name, str) or not name or "*" in name]:
            raise InvalidInput(f"fields has {bad[0]!r}; expected names of metadata fields, such as 'year', no patterns")
        self.window(stores_vectors=True)

    def window(self, *, stores_vectors: bool, usual: int = DEFAULT_RERANK) -> int:
        """How many candidates are re-ranked; 0 for none.

        Args:
            stores_vectors: whether the index keeps descriptors.
            usual: how many the index re-ranks where none is asked for.
        """
        usable = stores_vectors or self.rerank_from is not None
        return rerank_window(k=self.k, rerank=self.rerank, stores_vectors=usable, usual=usual)


def source_fields(fields: Sequence[str] | None) -> list[str] | bool:
    """The ``_source`` part of a body that brings back the chosen metadata."""
    if fields is None:
        return ["metadata"]
    return [f"metadata.{name}" for name in fields] or False


def chosen_fields(metadata: Mapping[str, Any], fields: Sequence[str] | None) -> Mapping[str, Any]:
    """The chosen part of a document's metadata, as an engine picks it: ``place.city`` is within ``place``."""
    return metadata if fields is None else _picked(metadata, fields, "")


def _picked(value: Any, fields: Sequence[str], path: str) -> Any:
    if isinstance(value, list):
        return [part for part in (_picked(item, fields, path) for item in value) if part not in ({}, [], None)]
    if not isinstance(value, Mapping):
        return None
    picked = {}
    for key, inner in value.items():
        own = f"{path}.{key}" if path else key
        if any(own == name or own.startswith(f"{name}.") for name in fields):
            picked[key] = inner
        elif any(name.startswith(f"{own}.") for name in fields):
            part = _picked(inner, fields, own)
            if part not in ({}, [], None):
                picked[key] = part
    return picked


@dataclass(frozen=True)
class Search:
    """One query, ready to be sent.

    Attributes:
        body: of the request.
        options: what was asked.
        query: float32 (D,), L2-normalised; None where only terms are known.
        rescored: the scores of the answer are cosines plus the script's offset.
        candidates: the answer holds candidates by id, to be re-ranked here.
        terms: of the query, (1, V); None if documents are compared exactly.
    """

    body: dict[str, Any]
    options: SearchOptions
    query: NDArray[np.float32] | None
    rescored: bool = False
    candidates: bool = False
    terms: TermFrequencies | None = None

    @classmethod
    def build(
        cls,
        terms: TermFrequencies,
        query: NDArray[np.float32] | None,
        *,
        layout: Layout,
        vector_type: ComparedBy | None,
        options: SearchOptions,
        default_rerank: int = DEFAULT_RERANK,
        sketch: bool = False,
    ) -> Search:
        """Write the body.

        Args:
            terms: of the query, (1, V), as many as its effort asks for.
            query: float32 (D,), L2-normalised; without it there is no re-ranking.
            layout: of the index.
            vector_type: the type that the index stores, or its dense_vector.
            options: as asked.
            default_rerank: how many candidates the index re-ranks where none is asked for.
            sketch: compare most of them by their sketches only, which the index has.

        Raises:
            InvalidInput: re-ranking is asked of an index without vectors.
        """
        window = (
            options.window(stores_vectors=vector_type is not None, usual=default_rerank) if query is not None else 0
        )
        local = bool(window) and options.rerank_from is not None
        rescored = bool(window) and not local
        body = search_body(
            terms,
            layout=layout,
            k=window if local else options.k,
            filter=options.filter,
            rescore=rescore(
                query, window=window, vector_type=vector_type, kept=survivors(options.k) if sketch else None
            )
            if rescored and query is not None and vector_type is not None
            else None,
            source=False if local else source_fields(options.fields),
        )
        if local:
            # A stored field a hit would cost more than the search: the id is a doc value as well.
            body |= {"stored_fields": "_none_", "docvalue_fields": ["id"]}
        return cls(body, options, query, rescored=rescored, candidates=local, terms=terms)

    @classmethod
    def exact(
        cls, query: NDArray[np.float32], *, vector_type: ComparedBy, options: SearchOptions, sketch: bool = False
    ) -> Search:
        """Compare every document that the filter keeps with the query.

        Args:
            query: float32 (D,), L2-normalised.
            vector_type: the type that the index stores, or its dense_vector.
            options: as asked, with a filter.
            sketch: compare them by their sketches, and the best of them by their vectors.
        """
        matching = {"bool": {"filter": [options.filter]}}  # not scored
        body = exact_body(
            score_by_sketch(query, matching) if sketch else score_by_cosine(query, matching, vector_type=vector_type),
            k=options.k,
            rescore=rescore(query, window=survivors(options.k, far=True), vector_type=vector_type) if sketch else None,
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
        read = Hits(tuple(hits), took_ms=float(answer["took"]), partial=incomplete(answer), terms=self.terms)
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


def above(hits: Hits, min_score: float | None) -> Hits:
    """The hits that reach a score. They are the first of them: asking the engine would switch its pruning off."""
    if min_score is None:
        return hits
    return replace(hits, hits=tuple(hit for hit in hits if hit.score >= min_score))


def indices_of(answer: Mapping[str, Any]) -> set[str]:
    """The concrete indices that the hits of an answer are from."""
    return {hit["_index"] for hit in answer["hits"]["hits"]}
