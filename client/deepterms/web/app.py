"""create_app: an index into an ASGI application, with its page, its API, its metrics and its probes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deepterms.errors import DeepTermsError, MissingExtra

try:
    import prometheus_client as _prometheus_client  # noqa: F401
    import python_multipart as _python_multipart  # noqa: F401  (what parses forms asserts that it is there)
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "fastapi", "serve") from error

from deepterms.web.access import Access
from deepterms.web.decoder import Decoder
from deepterms.web.errors import PROBLEM_JSON, Problem, problem_of
from deepterms.web.limits import Limits
from deepterms.web.metrics import Metrics
from deepterms.web.middleware import Envelope, request_id_of
from deepterms.web.routes.page import page_routes
from deepterms.web.routes.search import Api
from deepterms.web.service import Describer
from deepterms.web.thumbnails import Photographs

__all__ = ["create_app"]

logger = logging.getLogger("deepterms.web")

DESCRIPTION = """Search one index of image descriptors by picture, by descriptor or by document; add and delete.

Every answer carries `X-Request-ID`, that of the request if it had one. What goes wrong is answered as
`application/problem+json` (RFC 9457). 408: the body came too slowly. 413: too long, or too many pixels. 415: no picture
or no JSON. 422: understood, but not usable. 429: too many requests of one address at once. 502: the cluster refused.
503: too much waits already, or the cluster does not answer. 504: the cluster took too long."""


def create_app(
    index: Any,
    *,
    describer: Describer | None = None,
    photographs: Iterable[str | Path] = (),
    access: Access | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """An application that serves one index.

    Args:
        index: a `SurrogateIndex`, or anything with its methods. What its client may wait is the caller's to say.
        describer: makes descriptors of pictures, such as the `RMACExtractor` that the index was filled with; without
            one there is no search by picture.
        photographs: folders whose files may be shown as thumbnails; no other file is.
        access: who may ask; default: whoever reaches this server under a name of this machine.
        limits: of everything.

    Returns:
        the application, for uvicorn or any other ASGI server, in one process.

    Raises:
        InvalidInput: a folder that is none.
        MissingExtra: the extra ``serve`` is not installed.
    """
    access, limits, metrics = access or Access(), limits or Limits(), Metrics()
    decoder = Decoder(limits)
    api = Api(
        index,
        describer=describer,
        decoder=decoder,
        photographs=Photographs(photographs, decoder),
        access=access,
        limits=limits,
        metrics=metrics,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        decoder.start()
        yield
        api.close()
        decoder.close()

    app = FastAPI(
        title="deepterms",
        version=api.version,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # both load scripts from other hosts
        redoc_url=None,
    )
    app.include_router(api.router())
    app.include_router(page_routes())
    app.add_exception_handler(DeepTermsError, _failed)
    app.add_exception_handler(RequestValidationError, _failed)
    app.add_exception_handler(HTTPException, _failed)
    app.add_middleware(Envelope, access=access, limits=limits, metrics=metrics)
    return app


def _failed(request: Request, error: Exception) -> Response:
    """Any error as a problem; what only the operator should know goes to the log."""
    problem = _problem(error)
    request_id = request_id_of(request.scope)
    if problem.status >= 500:
        logger.warning("%s %s: %s", request_id, type(error).__name__, error)
    return Response(
        problem.body(request_id).model_dump_json(),
        problem.status,
        headers=problem.headers | {"cache-control": "no-store"},
        media_type=PROBLEM_JSON,
    )


def _problem(error: Exception) -> Problem:
    if isinstance(error.__cause__, Problem):  # FastAPI turns what reading the body raises into its own 400
        return error.__cause__
    if isinstance(error, DeepTermsError):
        return problem_of(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem(422, f"{where}: {first['msg']}")
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    return Problem(500, "the server failed; its log says more")
