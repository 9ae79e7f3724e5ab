"""OperationRoutes: status, sessions, metrics and health probes of the server."""

from __future__ import annotations

import threading
import time
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from deepterms.errors import ClusterError, DeepTermsError
from deepterms.web.access import COOKIE
from deepterms.web.errors import HttpError, ProblemDetails, describe_errors, to_http_error
from deepterms.web.schemas import HealthResponse, SessionRequest, StatusResponse
from deepterms.web.server import Server
from deepterms.web.service import Service

__all__ = ["VERSION", "OperationRoutes"]

VERSION = version("deepterms")
STATUS_SECONDS = 10.0  # a status takes several requests to the cluster, so it is cached


class OperationRoutes:
    """The routes for operators and their tools.

    Args:
        service: of the index.
        server: of the routes.
    """

    def __init__(self, service: Service, server: Server) -> None:
        self._service = service
        self._server = server
        self._lock = threading.Lock()
        self._cached: tuple[float, StatusResponse] | None = None

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.get("/v1/status", summary="Index and server status", responses=describe_errors())(self.status)
        router.post(
            "/v1/session",
            summary="Exchange the token for a cookie",
            responses=describe_errors(408, 415),
            status_code=204,
        )(self.session)
        unready: dict[int | str, dict[str, Any]] = {503: {"model": ProblemDetails}}
        router.get("/healthz", summary="Liveness probe")(self.health)
        router.get("/readyz", summary="Readiness probe", responses=unready)(self.ready)
        router.get("/metrics", summary="Prometheus metrics", response_class=Response)(self.metrics)

    async def status(self) -> StatusResponse:
        """The index, and what the server can do with it. Cached for a few seconds."""
        cached = self._cached
        if cached is not None and time.monotonic() - cached[0] < STATUS_SECONDS:
            return cached[1]
        return await self._server.pools.others.run(self._read_status)

    async def session(self, body: SessionRequest, request: Request) -> Response:
        """For the search page: the browser then sends the cookie with every request, thumbnails included."""
        access = self._server.access
        if not access.is_token(body.token):
            raise HttpError(401, "invalid token", headers={"WWW-Authenticate": "Bearer"})
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE,
            access.sign_session(),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response

    async def health(self) -> HealthResponse:
        """Does not contact the cluster: restarting the server does not help when the cluster is down."""
        return HealthResponse(status="alive")

    async def ready(self) -> HealthResponse:
        """Checks that the cluster responds and has the index."""
        try:
            await self._server.pools.others.run(self._service.index.count)
        except DeepTermsError as error:
            raise HttpError(503, to_http_error(error).detail) from error
        return HealthResponse(status="ready")

    async def metrics(self) -> Response:
        """In Prometheus text format."""
        return Response(self._server.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    def _read_status(self) -> StatusResponse:
        index, server = self._service.index, self._server
        size: int | None = None
        try:
            stats = index.stats()
            documents, engine, size = stats.documents, stats.engine, stats.bytes
        except ClusterError:  # sizes need the monitor privilege, which searches do not
            documents, engine = index.count(), str(index.cluster.engine)
        status = StatusResponse(
            name=getattr(index, "name", "memory"),
            documents=documents,
            engine=engine,
            encoder=str(index.encoder),
            dimensions=index.encoder.dimensions,
            vocabulary_size=index.encoder.vocabulary_size,
            vectors=index.vector_type,
            bytes=size,
            images=server.extractor is not None,
            photographs=bool(server.thumbnails.roots),
            writable=not server.access.read_only,
            largest_k=server.limits.hits,
            largest_rerank=server.limits.candidates,
            image_bytes=server.limits.image_bytes,
            version=VERSION,
        )
        with self._lock:
            self._cached = (time.monotonic(), status)
        return status
