"""SearchRoutes: search by image, descriptor or document, explain a hit, and count the values to filter by."""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.requests import Request

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.web.decoder import Pixels
from deepterms.web.errors import HttpError, describe_errors
from deepterms.web.facets import count_facets
from deepterms.web.schemas import (
    CodewordMatch,
    ExplainRequest,
    ExplainResponse,
    FacetsResponse,
    FieldFacet,
    IdSearch,
    ImageSearch,
    SearchParameters,
    SearchResponse,
    VectorSearch,
    parse_filters,
    parse_vector,
)
from deepterms.web.server import Extractor, Server
from deepterms.web.service import ServedSearch, Service
from deepterms.web.uploads import FORM_FIELD, read_image

__all__ = ["SearchRoutes"]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FORM_FIELD: {"type": "string", "format": "binary"}},
                    "required": [FORM_FIELD],
                }
            },
        },
    }
}


class SearchRoutes:
    """The routes that search.

    Args:
        service: of the index.
        server: of the routes.
    """

    def __init__(self, service: Service, server: Server) -> None:
        self._service = service
        self._server = server

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        post = router.post
        post(
            "/v1/search/image",
            summary="Search by image",
            responses=describe_errors(408, 415, 501),
            openapi_extra=_IMAGE_BODY,
        )(self.search_image)
        post("/v1/search/vector", summary="Search by descriptor", responses=describe_errors(408, 415))(
            self.search_vector
        )
        post("/v1/search/id", summary="Search by document", responses=describe_errors(404, 408, 415))(self.search_id)
        post("/v1/explain", summary="Explain a hit", responses=describe_errors(404, 408, 415))(self.explain)
        router.get("/v1/facets", summary="Count the values to filter by", responses=describe_errors())(self.facets)

    async def search_image(self, request: Request, options: Annotated[ImageSearch, Query()]) -> SearchResponse:
        """Send the image as the body (`curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'`) or in a form."""
        extractor, pools = self._server.extractor, self._server.pools
        if extractor is None:
            raise HttpError(
                501, "search by image is not available: the index does not record which extractor made its descriptors"
            )
        self._check(options)
        filters = parse_filters(options.filter)
        content = await read_image(request, self._server.limits)
        started = time.perf_counter()
        pixels = await pools.decodings.run(lambda: self._decode(extractor, content))
        decoding = (time.perf_counter() - started) * 1e3
        started = time.perf_counter()
        feature = await pools.descriptions.run(lambda: _describe(extractor, pixels))
        descriptor = (time.perf_counter() - started) * 1e3
        found = await pools.searches.run(lambda: self._service.search(feature, options, filters))
        return self._respond(found, options, decoding=decoding, descriptor=descriptor)

    async def search_vector(self, body: VectorSearch) -> SearchResponse:
        """For clients that extract their own descriptors."""
        self._check(body)
        feature = self._parse_vector(body.query)
        found = await self._server.pools.searches.run(lambda: self._service.search(feature, body, body.filter))
        return self._respond(found, body)

    async def search_id(self, body: IdSearch) -> SearchResponse:
        """Finds documents similar to one in the index, which is itself not among the hits."""
        self._check(body)
        found = await self._server.pools.searches.run(lambda: self._service.search_by_id(body.id, body, body.filter))
        return self._respond(found, body)

    async def explain(self, body: ExplainRequest) -> ExplainResponse:
        """Lists the codewords that a document shares with a query, and what each contributes to the score."""
        if (body.query is None) == (body.query_id is None):
            raise HttpError(422, "expected exactly one of query (a descriptor) and query_id (a document)")
        feature = None if body.query is None else self._parse_vector(body.query)
        explanation = await self._server.pools.searches.run(
            lambda: self._service.explain(body.id, feature, body.query_id, body.effort)
        )
        return ExplainResponse(
            id=explanation.id,
            score=explanation.score,
            engine_score=explanation.engine_score,
            agrees=explanation.agrees,
            query_codewords=explanation.query_codewords,
            document_codewords=explanation.document_codewords,
            matches=[
                CodewordMatch(codeword=m.codeword, weight=m.weight, frequency=m.frequency, product=m.product)
                for m in explanation.matches
            ],
        )

    async def facets(self, filter: Annotated[str | None, Query(max_length=4_000)] = None) -> FacetsResponse:
        """The counts of a field cover the documents that match the filters on all other fields."""
        filters = parse_filters(filter) or {}
        facets = await self._server.pools.others.run(lambda: count_facets(self._service.index, filters))
        return FacetsResponse(
            facets=[
                FieldFacet(field=f.field, values=list(f.values), more=f.more, least=f.least, most=f.most)
                for f in facets
            ]
        )

    def _check(self, parameters: SearchParameters) -> None:
        limits = self._server.limits
        if parameters.k > limits.hits:
            raise HttpError(422, f"k is {parameters.k:,}; expected at most {limits.hits:,}")
        if parameters.rerank is not None and parameters.rerank > limits.candidates:
            raise HttpError(422, f"rerank is {parameters.rerank:,}; expected at most {limits.candidates:,}")

    def _parse_vector(self, vector: NDArray[np.float32] | str) -> NDArray[np.float32]:
        return parse_vector(vector, dimensions=self._service.index.encoder.dimensions)

    def _decode(self, extractor: Extractor, content: bytes | bytearray) -> tuple[Pixels, ...]:
        try:
            return self._server.decoder.pixels(content, sizes=extractor.sizes, side=extractor.side)
        except TooManyPixels:
            raise
        except UnreadableImage as error:
            is_foreign = error.reason.startswith(("not a picture", "not an image"))
            raise HttpError(415 if is_foreign else 422, f"unreadable image: {error.reason}") from None

    def _respond(
        self,
        found: ServedSearch,
        parameters: SearchParameters,
        *,
        decoding: float | None = None,
        descriptor: float | None = None,
    ) -> SearchResponse:
        steps = {"decoding": decoding, "descriptor": descriptor, "search": found.search_ms}
        for step, milliseconds in steps.items():
            self._server.metrics.observe_step(step, milliseconds)
        return found.to_response(
            with_thumbnails=bool(self._server.thumbnails.roots),
            with_vector=parameters.vector,
            decoding=decoding,
            descriptor=descriptor,
        )


def _describe(extractor: Extractor, pixels: tuple[Pixels, ...]) -> NDArray[np.float32]:
    try:
        return extractor.extract_pixels(pixels)
    except UnreadableImage as error:
        raise HttpError(422, f"unreadable image: {error.reason}") from None
