"""DocumentRoutes: read, add and delete documents, one by one, in batches, or in a stream of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from deepterms.web.errors import HttpError, describe_errors, parse_media_type
from deepterms.web.json_bodies import parse_document
from deepterms.web.schemas import (
    AddRequest,
    DeleteRequest,
    DocumentResponse,
    NewDocument,
    StreamLine,
    WriteResponse,
    encode_vector,
)
from deepterms.web.server import Server
from deepterms.web.service import Service, thumbnail_url
from deepterms.web.stream import NDJSON, StreamingResponse, index_stream

__all__ = ["DocumentRoutes"]

THUMBNAIL_SECONDS = 3_600  # how long browsers may cache a thumbnail

DocumentId = Annotated[str, Query(min_length=1, max_length=512)]

_STREAM_BODY = {
    "requestBody": {
        "required": True,
        "description": "One document per line.",
        "content": {NDJSON: {"schema": NewDocument.model_json_schema()}},
    }
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {},
}


class DocumentRoutes:
    """The routes that read and write documents.

    Args:
        service: of the index.
        server: of the routes.
    """

    def __init__(self, service: Service, server: Server) -> None:
        self._service = service
        self._server = server

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        post, get = router.post, router.get
        get("/v1/document", summary="Get a document", responses=describe_errors(404))(self.document)
        router.delete("/v1/document", summary="Delete a document", responses=describe_errors())(self.delete_document)
        post("/v1/documents", summary="Add documents", responses=describe_errors(408, 415))(self.add)
        post(
            "/v1/documents/stream",
            summary="Add a stream of documents",
            responses={**describe_errors(415), 200: {"content": {NDJSON: {"schema": StreamLine.model_json_schema()}}}},
            openapi_extra=_STREAM_BODY,
            response_class=Response,
        )(self.add_stream)
        post("/v1/documents/delete", summary="Delete documents", responses=describe_errors(408, 415))(self.delete)
        get(
            "/v1/thumbnail",
            summary="Get the thumbnail of a document's photo",
            responses={**describe_errors(404), **_JPEG},
            response_class=Response,
        )(self.thumbnail)

    async def document(self, id: DocumentId) -> DocumentResponse:
        """Includes its codewords and, if the index stores it, its descriptor."""
        document = await self._server.pools.others.run(lambda: self._service.get(id))
        return DocumentResponse(
            id=document.id,
            metadata=dict(document.metadata),
            terms=dict(document.terms),
            vector=None if document.vector is None else encode_vector(document.vector),
            thumbnail=thumbnail_url(id) if self._server.thumbnails.roots else None,
        )

    async def thumbnail(self, request: Request, id: DocumentId) -> Response:
        """Limited to files inside the folders that the server was started with."""
        thumbnails = self._server.thumbnails
        made = await self._server.pools.thumbnails.run(lambda: thumbnails.thumbnail(id, self._service.locate_photo(id)))
        if made is None:
            raise HttpError(404, "this document has no photo inside the folders that the server may show")
        headers = {"etag": f'"{made.etag}"', "cache-control": f"private, max-age={THUMBNAIL_SECONDS}"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(made.jpeg, headers=headers, media_type="image/jpeg")

    async def add(self, body: AddRequest) -> WriteResponse:
        """A document replaces any document with the same id. A document that fails does not affect the others."""
        return await self._add(body.documents, refresh=body.refresh)

    async def add_stream(self, request: Request) -> Response:
        """For any number of documents: each batch is indexed and reported while the rest is still being sent.

        The last line has `done`; without it the stream was interrupted and can be sent again.
        """
        if parse_media_type(request) not in {NDJSON, "application/ndjson", "application/jsonl"}:
            raise HttpError(415, f"unsupported media type; send one JSON document per line with Content-Type: {NDJSON}")
        self._check_writable()
        lines = index_stream(request.stream(), self._add, self._parse, limits=self._server.limits)
        return StreamingResponse(lines)

    async def _parse(self, lines: list[bytes]) -> list[NewDocument | ValueError]:
        return await self._server.pools.parsings.run(lambda: [_parse_line(line) for line in lines])

    async def delete(self, body: DeleteRequest) -> WriteResponse:
        """A document that does not exist counts as deleted."""
        return await self._delete(body.ids, refresh=body.refresh)

    async def delete_document(self, id: DocumentId, refresh: bool = False) -> WriteResponse:
        """A document that does not exist counts as deleted."""
        return await self._delete([id], refresh=refresh)

    def _check_writable(self) -> None:
        if self._server.access.read_only:
            raise HttpError(403, "this server is read-only; it was started with --read-only")

    async def _add(self, documents: Sequence[NewDocument], *, refresh: bool = False) -> WriteResponse:
        self._check_writable()
        response = await self._server.pools.writes.run(lambda: self._service.add(documents, refresh=refresh))
        self._server.metrics.count_documents(succeeded=response.succeeded, failed=len(response.failed))
        return response

    async def _delete(self, ids: Sequence[str], *, refresh: bool) -> WriteResponse:
        self._check_writable()
        return await self._server.pools.writes.run(lambda: self._service.delete(ids, refresh=refresh))


def _parse_line(line: bytes) -> NewDocument | ValueError:
    try:
        return parse_document(line)
    except ValueError as error:
        return error
