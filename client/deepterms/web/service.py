"""Service: what the API does with an index, without HTTP: searches taken apart in time, and documents in and out."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deepterms.inspection.explanation import Explanation
from deepterms.results import Hits, StoredDocument
from deepterms.search.widening import query_terms
from deepterms.web.errors import Problem
from deepterms.web.filters import filter_of
from deepterms.web.schemas import HitAnswer, SearchAnswer, SearchOptions, TimesAnswer, text_of

__all__ = ["Describer", "Found", "Service", "hit_answers", "search_answer", "thumbnail_address"]

CODEWORDS_SHOWN = 40
SEEN = 20_000  # hits whose photographs' places are remembered
SEEN_SECONDS = 60.0


class Describer(Protocol):
    """What makes descriptors of pictures, such as an `RMACExtractor`."""

    sizes: tuple[int, ...]
    side: Literal["min", "max"]

    def extract_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Float32 (D,) of one picture, given once a size."""
        ...


@dataclass(frozen=True)
class Found:
    """The hits of a search and how long its steps took.

    Attributes:
        hits: best first.
        query: float32 (D,), L2-normalised or not; None if only terms are known.
        codewords: of the query, the largest first.
        encoding: milliseconds.
        search: milliseconds, re-ranking included.
        plain: milliseconds of the same search without re-ranking; None if it was not asked for.
        reranked: whether scores are cosines.
    """

    hits: Hits
    query: NDArray[np.float32] | None
    codewords: dict[str, int]
    encoding: float | None
    search: float
    plain: float | None
    reranked: bool


class Service:
    """One index, searched and written to; all methods block.

    Args:
        index: a `SurrogateIndex`, or anything with its methods.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        self._seen: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, query: NDArray[np.float32], options: SearchOptions, choices: Mapping[str, Any] | None) -> Found:
        """Search by a descriptor (D,)."""
        started = time.perf_counter()
        terms = query_terms(self.index.encoder, query, effort=options.effort)
        encoding = _since(started)
        (codewords,) = terms.to_terms()
        return self._found(
            lambda rerank: self.index.search(query, **self._arguments(options, choices, rerank)),
            options,
            query=query,
            codewords=codewords,
            encoding=encoding,
        )

    def search_by_id(self, id: str, options: SearchOptions, choices: Mapping[str, Any] | None) -> Found:
        """Search by a document of the index.

        Raises:
            Problem: 404, there is none.
        """
        document = self.document(id)
        return self._found(
            lambda rerank: self.index.search_by_id(id, **self._arguments(options, choices, rerank)),
            options,
            query=document.vector,
            codewords=dict(document.terms),
            encoding=None,
        )

    def explain(self, id: str, query: NDArray[np.float32] | None, query_id: str | None, effort: float) -> Explanation:
        """Why a document has its score for a query, which is a descriptor or another document.

        Raises:
            Problem: 404, no such document; 422, the other document's descriptor is not kept.
        """
        self.document(id)
        if query is None:
            query = self.document(query_id or "").vector
        if query is None:
            raise Problem(422, "this index keeps no descriptors, so only a query with one of its own can be explained")
        explanation: Explanation = self.index.explain(id, query, effort=effort)
        return explanation

    def document(self, id: str) -> StoredDocument:
        """A document.

        Raises:
            Problem: 404, there is none.
        """
        document: StoredDocument | None = self.index.get(id)
        if document is None:
            raise Problem(404, f"no document {id!r} in this index")
        return document

    def where(self, id: str) -> Mapping[str, Any]:
        """The part of a document's metadata that says where its photograph is.

        That of a hit is known for a while: a page of hits asks for all their thumbnails at once.

        Raises:
            Problem: 404, no such document.
        """
        with self._lock:
            seen, where = self._seen.get(id, (-SEEN_SECONDS, {}))
        return where if time.monotonic() - seen < SEEN_SECONDS else _where(self.document(id).metadata)

    def _see(self, hits: Hits) -> None:
        now = time.monotonic()
        with self._lock:
            for hit in hits:
                self._seen[hit.id] = (now, _where(hit.metadata))
                self._seen.move_to_end(hit.id)
            while len(self._seen) > SEEN:
                self._seen.popitem(last=False)

    def _arguments(
        self, options: SearchOptions, choices: Mapping[str, Any] | None, rerank: int | None
    ) -> dict[str, Any]:
        return {
            "k": options.k,
            "filter": filter_of(choices),
            "rerank": rerank,
            "effort": options.effort,
            "min_score": options.min_score,
            "fields": options.fields,
        }

    def _found(
        self,
        search: Callable[[int | None], Hits],
        options: SearchOptions,
        *,
        query: NDArray[np.float32] | None,
        codewords: Mapping[str, int],
        encoding: float | None,
    ) -> Found:
        rerank = options.rerank
        started = time.perf_counter()
        hits = search(rerank)
        took = _since(started)
        if options.fields is None:
            self._see(hits)
        reranked = self.index.stores_vectors and rerank != 0
        plain = None
        if options.split and reranked:
            started = time.perf_counter()
            search(0)
            plain = _since(started)
        largest = sorted(codewords.items(), key=lambda pair: -pair[1])[:CODEWORDS_SHOWN]
        return Found(hits, query, dict(largest), encoding, took, plain, reranked)


def search_answer(
    found: Found,
    *,
    thumbnails: bool,
    vector: bool,
    decoding: float | None = None,
    descriptor: float | None = None,
) -> SearchAnswer:
    """A search as it is answered; times in milliseconds."""
    plain = found.plain if found.plain is None else min(found.plain, found.search)
    return SearchAnswer(
        hits=hit_answers(found.hits, thumbnails=thumbnails),
        partial=found.hits.partial,
        score="cosine" if found.reranked else "dot product",
        times=TimesAnswer(
            decoding=decoding,
            descriptor=descriptor,
            encoding=found.encoding,
            search=found.search if plain is None else plain,
            rerank=None if plain is None else found.search - plain,
            engine=found.hits.took_ms,
        ),
        query=found.codewords,
        vector=text_of(found.query) if vector and found.query is not None else None,
    )


def hit_answers(hits: Hits, *, thumbnails: bool) -> list[HitAnswer]:
    """Hits as they are answered."""
    return [
        HitAnswer(
            rank=rank,
            id=hit.id,
            score=hit.score,
            metadata=dict(hit.metadata),
            thumbnail=thumbnail_address(hit.id) if thumbnails else None,
        )
        for rank, hit in enumerate(hits, start=1)
    ]


def thumbnail_address(id: str) -> str:
    """Where the thumbnail of a document is."""
    return f"/v1/thumbnail?id={quote(id, safe='')}"


def _where(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"path": metadata["path"]} if "path" in metadata else {}


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
