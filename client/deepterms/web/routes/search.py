"""Api: the routes under /v1, each a thin coat around the service, with its calls in bounded pools of threads."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.web.access import COOKIE, Access
from deepterms.web.decoder import Decoder, Pixels
from deepterms.web.errors import Problem
from deepterms.web.facets import Facet, facets_of
from deepterms.web.limits import Limits
from deepterms.web.metrics import Metrics
from deepterms.web.routes.documents import Writes
from deepterms.web.routes.operations import Operations
from deepterms.web.routing import json_only, problems
from deepterms.web.schemas import (
    DocumentAnswer,
    ExplainAnswer,
    ExplainRequest,
    FacetAnswer,
    FacetsAnswer,
    IdSearch,
    ImageSearch,
    MatchAnswer,
    SearchAnswer,
    SearchOptions,
    SessionRequest,
    StatusAnswer,
    VectorSearch,
    array_of,
    choices_of,
    text_of,
)
from deepterms.web.service import Describer, Found, Service, search_answer, thumbnail_address
from deepterms.web.thread_pool import Pool
from deepterms.web.thumbnails import Photographs
from deepterms.web.uploads import FIELD, picture_of

__all__ = ["Api"]

THUMBNAIL_SECONDS = 3_600  # a browser may keep one without asking

_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {},
}
_PICTURE = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                    "required": [FIELD],
                }
            },
        },
    }
}


class Api:
    """The API of one index; see `create_app` for the arguments."""

    def __init__(
        self,
        index: Any,
        *,
        describer: Describer | None,
        decoder: Decoder,
        photographs: Photographs,
        access: Access,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._service = Service(index)
        self._describer = describer
        self._decoder = decoder
        self._photographs = photographs
        self._access = access
        self._limits = limits
        self._metrics = metrics
        few = max(1, limits.threads // 4)

        def pool(name: str, threads: int, *, seconds: float = limits.seconds) -> Pool:
            return Pool(name, threads=threads, waiting=limits.waiting, seconds=seconds)

        self._searches = pool("searches", limits.threads)
        self._decodings = pool("decodings", few)
        self._descriptions = pool("descriptions", 1)  # torch uses all cores by itself
        self._thumbnails = pool("thumbnails", few)
        writes = pool("writes", few, seconds=4 * limits.seconds)
        self._others = pool("others", few)
        self._pools = (
            self._searches, self._decodings, self._descriptions, self._thumbnails, writes, self._others,
        )  # fmt: skip
        for each in self._pools:
            metrics.watch(f"{each.name}_taken", f"{each.name} under way or waiting.", partial(_taken, each))
        metrics.watch("decoders_replaced", "Processes that died or were ended.", lambda: decoder.replaced)
        self._writes = Writes(index, pool=writes, access=access, limits=limits, metrics=metrics)
        self._operations = Operations(
            index,
            pool=self._others,
            describer=describer,
            photographs=photographs,
            access=access,
            limits=limits,
            metrics=metrics,
        )

    @property
    def version(self) -> str:
        """Of this package."""
        return self._operations.version

    def close(self) -> None:
        """Take no more calls."""
        for pool in self._pools:
            pool.close()

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter()
        post, get, json = router.post, router.get, [Depends(json_only)]
        post(
            "/v1/search/image",
            summary="Search by picture",
            responses=problems(408, 415, 501),
            openapi_extra=_PICTURE,
        )(self.search_image)
        post("/v1/search/vector", summary="Search by descriptor", responses=problems(415), dependencies=json)(
            self.search_vector
        )
        post("/v1/search/id", summary="More like a document", responses=problems(404, 415), dependencies=json)(
            self.search_id
        )
        post("/v1/explain", summary="Why a document is a hit", responses=problems(404, 415), dependencies=json)(
            self.explain
        )
        get("/v1/document", summary="One document", responses=problems(404))(self.document)
        self._writes.add_to(router)
        get(
            "/v1/thumbnail",
            summary="A document's photograph, small",
            responses={**problems(404), **_JPEG},
            response_class=Response,
        )(self.thumbnail)
        get("/v1/facets", summary="What can be chosen, with counts", responses=problems())(self.facets)
        get("/v1/status", summary="What is served", responses=problems())(self.status)
        post("/v1/session", summary="A cookie for the token", responses=problems(415), dependencies=json,
             status_code=204)(self.session)  # fmt: skip
        self._operations.add_to(router)
        return router

    async def search_image(self, request: Request, options: Annotated[ImageSearch, Query()]) -> SearchAnswer:
        """The body is the picture itself (`curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'`), or a form."""
        describer = self._describer
        if describer is None:
            raise Problem(501, "this index does not say what made its descriptors, so no picture can be compared")
        self._check(options)
        choices = choices_of(options.filter)
        content = await picture_of(request, self._limits)
        started = time.perf_counter()
        pixels = await self._decodings.run(lambda: self._pixels(describer, content))
        decoding = (time.perf_counter() - started) * 1e3
        started = time.perf_counter()
        feature = await self._descriptions.run(lambda: _described(describer, pixels))
        descriptor = (time.perf_counter() - started) * 1e3
        found = await self._searches.run(lambda: self._service.search(feature, options, choices))
        return self._answer(found, options, decoding=decoding, descriptor=descriptor)

    async def search_vector(self, asked: VectorSearch) -> SearchAnswer:
        """For descriptors of your own."""
        self._check(asked)
        feature = self._array(asked.query)
        found = await self._searches.run(lambda: self._service.search(feature, asked, asked.filter))
        return self._answer(found, asked)

    async def search_id(self, asked: IdSearch) -> SearchAnswer:
        """The document itself is not among the hits."""
        self._check(asked)
        found = await self._searches.run(lambda: self._service.search_by_id(asked.id, asked, asked.filter))
        return self._answer(found, asked)

    async def explain(self, asked: ExplainRequest) -> ExplainAnswer:
        """The codewords that a document shares with a query, with what each adds to the score."""
        if (asked.query is None) == (asked.query_id is None):
            raise Problem(422, "give either query, a descriptor, or query_id, a document")
        feature = None if asked.query is None else self._array(asked.query)
        found = await self._searches.run(lambda: self._service.explain(asked.id, feature, asked.query_id, asked.effort))
        return ExplainAnswer(
            id=found.id,
            score=found.score,
            engine_score=found.engine_score,
            agrees=found.agrees,
            query_codewords=found.query_codewords,
            document_codewords=found.document_codewords,
            matches=[
                MatchAnswer(codeword=m.codeword, weight=m.weight, frequency=m.frequency, product=m.product)
                for m in found.matches
            ],
        )

    async def document(self, id: Annotated[str, Query(min_length=1, max_length=512)]) -> DocumentAnswer:
        """With its codewords and, if the index keeps it, its descriptor."""
        found = await self._others.run(lambda: self._service.document(id))
        return DocumentAnswer(
            id=found.id,
            metadata=dict(found.metadata),
            terms=dict(found.terms),
            vector=None if found.vector is None else text_of(found.vector),
            thumbnail=thumbnail_address(id) if self._photographs.roots else None,
        )

    async def thumbnail(self, request: Request, id: Annotated[str, Query(min_length=1, max_length=512)]) -> Response:
        """Only of files below the folders that the server was started with."""
        made = await self._thumbnails.run(lambda: self._photographs.thumbnail(id, self._service.where(id)))
        if made is None:
            raise Problem(404, "this document has no photograph below the folders that this server may show")
        headers = {"etag": f'"{made.etag}"', "cache-control": f"private, max-age={THUMBNAIL_SECONDS}"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(made.jpeg, headers=headers, media_type="image/jpeg")

    async def facets(self, filter: Annotated[str | None, Query(max_length=4_000)] = None) -> FacetsAnswer:
        """The counts of a field are of the documents that fit the choices of all other fields."""
        choices = choices_of(filter) or {}
        found = await self._others.run(lambda: facets_of(self._service.index, choices))
        return FacetsAnswer(facets=[_facet_answer(facet) for facet in found])

    async def status(self) -> StatusAnswer:
        """Also what may be asked of it."""
        return await self._operations.status()

    async def session(self, asked: SessionRequest, request: Request) -> Response:
        """For the page: a browser then shows the cookie with every request, those for thumbnails included."""
        if not self._access.is_token(asked.token):
            raise Problem(401, "that is not this server's token", headers={"WWW-Authenticate": "Bearer"})
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE,
            self._access.session(),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response

    def _check(self, options: SearchOptions) -> None:
        if options.k > self._limits.hits:
            raise Problem(422, f"k is {options.k:,}; at most {self._limits.hits:,} hits are given")
        if options.rerank is not None and options.rerank > self._limits.candidates:
            raise Problem(422, f"rerank is {options.rerank:,}; at most {self._limits.candidates:,} are re-ranked")

    def _array(self, vector: list[float] | str) -> NDArray[np.float32]:
        return array_of(vector, dimensions=self._service.index.encoder.dimensions)

    def _pixels(self, describer: Describer, content: bytes) -> tuple[Pixels, ...]:
        try:
            return self._decoder.pixels(content, sizes=describer.sizes, side=describer.side)
        except TooManyPixels:
            raise
        except UnreadableImage as error:
            foreign = error.reason.startswith("not a picture in a format")
            raise Problem(415 if foreign else 422, f"the picture: {error.reason}") from None

    def _answer(
        self, found: Found, options: SearchOptions, *, decoding: float | None = None, descriptor: float | None = None
    ) -> SearchAnswer:
        steps = {"decoding": decoding, "descriptor": descriptor, "encoding": found.encoding, "search": found.search}
        for step, took in steps.items():
            self._metrics.step(step, took)
        return search_answer(
            found,
            thumbnails=bool(self._photographs.roots),
            vector=options.vector,
            decoding=decoding,
            descriptor=descriptor,
        )


def _taken(pool: Pool) -> float:
    return pool.taken


def _described(describer: Describer, pixels: tuple[Pixels, ...]) -> NDArray[np.float32]:
    try:
        return describer.extract_pixels(pixels)
    except UnreadableImage as error:
        raise Problem(422, f"the picture: {error.reason}") from None


def _facet_answer(facet: Facet) -> FacetAnswer:
    return FacetAnswer(
        field=facet.field, values=list(facet.values), more=facet.more, least=facet.least, most=facet.most
    )
