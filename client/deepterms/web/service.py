"""Service: searches, reads and writes one index on behalf of the routes, without HTTP."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deepterms.inspection.explanation import Explanation
from deepterms.results import Failure, Hits, StoredDocument
from deepterms.terms import TermFrequencies
from deepterms.web.errors import HttpError
from deepterms.web.filters import to_engine_filter
from deepterms.web.schemas import (
    DocumentFailure,
    NewDocument,
    SearchHit,
    SearchParameters,
    SearchResponse,
    SearchTimes,
    WriteResponse,
    encode_vector,
    parse_vector,
)

__all__ = ["ServedSearch", "Service", "thumbnail_url"]

MAX_CODEWORDS_SHOWN = 40
MAX_REMEMBERED = 20_000  # hits whose photo locations are remembered
REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True)
class ServedSearch:
    """The hits of a search and the time it took.

    Attributes:
        hits: best first.
        query: float32 (D,), L2-normalised or not; None if the index stores only the query document's terms.
        search_ms: time of the search in milliseconds, encoding and re-ranking included.
        unranked_ms: time of the same search without re-ranking; None unless the client asked for it.
        is_reranked: whether scores are cosines.
    """

    hits: Hits
    query: NDArray[np.float32] | None
    search_ms: float
    unranked_ms: float | None
    is_reranked: bool

    def to_response(
        self,
        *,
        with_thumbnails: bool,
        with_vector: bool,
        decoding: float | None = None,
        descriptor: float | None = None,
    ) -> SearchResponse:
        """Convert the search into the body of its response.

        Args:
            with_thumbnails: whether hits have thumbnails.
            with_vector: whether to include the query descriptor.
            decoding: time of decoding the image, in milliseconds.
            descriptor: time of extracting its descriptor, in milliseconds.
        """
        # The second search can take longer than the first; re-ranking never takes less than nothing.
        unranked = self.unranked_ms if self.unranked_ms is None else min(self.unranked_ms, self.search_ms)
        return SearchResponse(
            hits=[
                SearchHit(
                    rank=rank,
                    id=hit.id,
                    score=hit.score,
                    metadata=dict(hit.metadata),
                    thumbnail=thumbnail_url(hit.id) if with_thumbnails else None,
                )
                for rank, hit in enumerate(self.hits, start=1)
            ],
            partial=self.hits.partial,
            score="cosine" if self.is_reranked else "dot product",
            times=SearchTimes(
                decoding=decoding,
                descriptor=descriptor,
                search=self.search_ms if unranked is None else unranked,
                rerank=None if unranked is None else self.search_ms - unranked,
                engine=self.hits.took_ms,
            ),
            query=None if self.hits.terms is None else _select_codewords(self.hits.terms),
            vector=encode_vector(self.query) if with_vector and self.query is not None else None,
        )


class Service:
    """One index, searched and written to. All methods block.

    Args:
        index: a `SurrogateIndex` or any object with the same methods.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        self._locations: OrderedDict[str, tuple[float, Mapping[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def search(
        self, query: NDArray[np.float32], parameters: SearchParameters, filters: Mapping[str, Any] | None
    ) -> ServedSearch:
        """Search by descriptor (D,)."""
        return self._search(lambda **options: self.index.search(query, **options), query, parameters, filters)

    def search_by_id(self, id: str, parameters: SearchParameters, filters: Mapping[str, Any] | None) -> ServedSearch:
        """Search by a document of the index.

        Raises:
            HttpError: 404, no such document.
        """
        query = self.get(id).vector
        return self._search(lambda **options: self.index.search_by_id(id, **options), query, parameters, filters)

    def explain(self, id: str, query: NDArray[np.float32] | None, query_id: str | None, effort: float) -> Explanation:
        """Explain the score of a document for a query, which is a descriptor or another document.

        Raises:
            HttpError: 404, no such document; 422, the index does not store the other document's descriptor.
        """
        self.get(id)
        if query is None:
            query = self.get(query_id or "").vector
        if query is None:
            raise HttpError(
                422, "the index stores no descriptors, so `query_id` cannot be explained; send a descriptor as `query`"
            )
        explanation: Explanation = self.index.explain(id, query, effort=effort)
        return explanation

    def get(self, id: str) -> StoredDocument:
        """Get a document.

        Raises:
            HttpError: 404, no such document.
        """
        document: StoredDocument | None = self.index.get(id)
        if document is None:
            raise HttpError(404, f"no document {id!r} in this index")
        return document

    def add(self, documents: Sequence[NewDocument], *, refresh: bool) -> WriteResponse:
        """Index documents; an invalid one does not affect the others."""
        valid, vectors, failed = [], [], []
        for document in documents:
            try:
                vectors.append(parse_vector(document.vector, dimensions=self.index.encoder.dimensions))
                valid.append(document)
            except HttpError as error:
                failed.append(DocumentFailure(id=document.id, reason=error.detail))
        if not valid:
            return WriteResponse(succeeded=0, failed=failed)
        ids, metadata = [document.id for document in valid], [dict(document.metadata) for document in valid]
        report = self.index.add(ids, np.stack(vectors), metadata)
        if refresh:
            self.index.refresh()
        return WriteResponse(succeeded=report.succeeded, failed=[*failed, *_convert_failures(report.failed)])

    def delete(self, ids: Sequence[str], *, refresh: bool) -> WriteResponse:
        """Delete documents; one that does not exist counts as deleted."""
        report = self.index.delete(list(ids))
        if refresh:
            self.index.refresh()
        return WriteResponse(succeeded=report.succeeded, failed=_convert_failures(report.failed))

    def locate_photo(self, id: str) -> Mapping[str, Any]:
        """Return the part of a document's metadata that says where its photo is.

        The locations of recent hits are cached, because a page of hits requests all of their thumbnails at once.

        Raises:
            HttpError: 404, no such document.
        """
        with self._lock:
            remembered, location = self._locations.get(id, (-REMEMBERED_SECONDS, {}))
        if time.monotonic() - remembered < REMEMBERED_SECONDS:
            return location
        return _select_location(self.get(id).metadata)

    def _search(
        self,
        search: Callable[..., Hits],
        query: NDArray[np.float32] | None,
        parameters: SearchParameters,
        filters: Mapping[str, Any] | None,
    ) -> ServedSearch:
        options = {
            "k": parameters.k,
            "filter": to_engine_filter(filters),
            "effort": parameters.effort,
            "min_score": parameters.min_score,
            "fields": parameters.fields,
        }
        started = time.perf_counter()
        hits = search(rerank=parameters.rerank, recall=parameters.recall, **options)
        search_ms = _milliseconds_since(started)
        if parameters.fields is None:
            self._remember_locations(hits)
        is_reranked = self.index.stores_vectors and parameters.rerank != 0
        unranked_ms = None
        if parameters.split and is_reranked:
            started = time.perf_counter()
            search(rerank=0, **options)
            unranked_ms = _milliseconds_since(started)
        return ServedSearch(hits, query, search_ms, unranked_ms, is_reranked)

    def _remember_locations(self, hits: Hits) -> None:
        now = time.monotonic()
        with self._lock:
            for hit in hits:
                self._locations[hit.id] = (now, _select_location(hit.metadata))
                self._locations.move_to_end(hit.id)
            while len(self._locations) > MAX_REMEMBERED:
                self._locations.popitem(last=False)


def thumbnail_url(id: str) -> str:
    """The URL of a document's thumbnail on this server."""
    return f"/v1/thumbnail?id={quote(id, safe='')}"


def _select_codewords(terms: TermFrequencies) -> dict[str, int]:
    """The codewords of a query (1, V) with the largest weights, largest first."""
    (weights,) = terms.to_terms()
    return dict(sorted(weights.items(), key=lambda pair: -pair[1])[:MAX_CODEWORDS_SHOWN])


def _select_location(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"path": metadata["path"]} if "path" in metadata else {}


def _convert_failures(failures: Sequence[Failure]) -> list[DocumentFailure]:
    return [DocumentFailure(id=failure.id, reason=failure.reason) for failure in failures]


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
