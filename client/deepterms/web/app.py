"""create_app: turns an index into an ASGI application with a search page, an API, metrics and health probes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deepterms.errors import DeepTermsError
from deepterms.optional import require

with require("fastapi", "serve"):
    from fastapi import APIRouter, FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
with require("prometheus-client", "serve"):
    import prometheus_client as _prometheus_client  # noqa: F401
with require("python-multipart", "serve"):
    import python_multipart as _python_multipart  # noqa: F401  (starlette's form parser only asserts that it exists)

from deepterms.web.access import Access
from deepterms.web.errors import PROBLEM_JSON, HttpError, to_http_error
from deepterms.web.json_bodies import make_route_class
from deepterms.web.limits import Limits
from deepterms.web.log_lines import printable
from deepterms.web.middleware import Middleware, request_id_of
from deepterms.web.routes.documents import DocumentRoutes
from deepterms.web.routes.operations import VERSION, OperationRoutes
from deepterms.web.routes.page import add_page_routes
from deepterms.web.routes.search import SearchRoutes
from deepterms.web.server import Extractor, Server
from deepterms.web.service import Service

__all__ = ["create_app"]

logger = logging.getLogger("deepterms.web")

DESCRIPTION = """Search an index of image descriptors by image, descriptor or document; add and delete documents.

Every response carries `X-Request-ID`, taken from the request if it has one. Errors are `application/problem+json`
(RFC 9457). 408: the body arrived too slowly. 413: body too large, or too many pixels. 415: not an image, or not JSON.
422: well-formed but invalid. 429: too many concurrent requests from one address. 502: the cluster rejected the
request. 503: a queue is full, or the cluster does not respond; retry later. 504: the cluster took too long."""


def create_app(
    index: Any,
    *,
    describer: Extractor | None = None,
    photographs: Iterable[str | Path] = (),
    access: Access | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Create an application that serves one index.

    Args:
        index: a `SurrogateIndex` or any object with the same methods. Set request timeouts on its client.
        describer: extracts descriptors from images, such as the `RMACExtractor` that filled the index. Without it there
            is no search by image.
        photographs: folders whose files may be shown as thumbnails; no other file is.
        access: which requests are allowed. By default any that addresses the server by a name of this machine.
        limits: on requests, clients and the server.

    Returns:
        The application, for uvicorn or any other ASGI server, to be run in a single process.

    Raises:
        InvalidInput: one of the folders does not exist or is not a folder.
        MissingExtra: the extra ``serve`` is not installed.
    """
    server = Server.create(
        extractor=describer, photos=photographs, access=access or Access(), limits=limits or Limits()
    )
    service = Service(index)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        server.close()

    app = FastAPI(
        title="deepterms",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # both load scripts from other hosts
        redoc_url=None,
    )
    router = APIRouter(route_class=make_route_class(server))
    for routes in (SearchRoutes(service, server), DocumentRoutes(service, server), OperationRoutes(service, server)):
        routes.add_to(router)
    add_page_routes(router)
    app.include_router(router)
    for kind in (DeepTermsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _respond_with_error)
    app.add_middleware(Middleware, server=server)
    return app


def _respond_with_error(request: Request, error: Exception) -> Response:
    """Send any error as problem details; the log has what only operators should see."""
    http_error = _convert_error(error)
    request_id = request_id_of(request.scope)
    if http_error.status >= 500:
        logger.warning("%s %s: %s", request_id, type(error).__name__, printable(str(error)))
    return Response(
        http_error.details(request_id).model_dump_json(),
        http_error.status,
        headers=http_error.headers | {"cache-control": "no-store"},
        media_type=PROBLEM_JSON,
    )


def _convert_error(error: Exception) -> HttpError:
    if isinstance(error, DeepTermsError):
        return to_http_error(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return HttpError(422, f"{where}: {first['msg']}")
    if isinstance(error, HTTPException):
        return HttpError(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    return HttpError(500, "internal server error; see the server log")
