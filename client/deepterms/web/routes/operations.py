"""Operations: what operators and their tools ask of the server: its status, metrics, and whether it lives."""

from __future__ import annotations

import threading
import time
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from deepterms.errors import ClusterError, DeepTermsError
from deepterms.web.access import Access
from deepterms.web.errors import Problem, ProblemBody, problem_of
from deepterms.web.limits import Limits
from deepterms.web.metrics import Metrics
from deepterms.web.schemas import Probe, StatusAnswer
from deepterms.web.service import Describer
from deepterms.web.thread_pool import Pool
from deepterms.web.thumbnails import Photographs

__all__ = ["Operations"]

KEPT_SECONDS = 10.0  # a status asks the cluster for several things


class Operations:
    """Status, metrics and probes of one index; see `create_app` for the arguments."""

    def __init__(
        self,
        index: Any,
        *,
        pool: Pool,
        describer: Describer | None,
        photographs: Photographs,
        access: Access,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.version = version("deepterms")
        self._index = index
        self._pool = pool
        self._images = describer is not None
        self._photographs = photographs
        self._access = access
        self._limits = limits
        self._metrics = metrics
        self._lock = threading.Lock()
        self._kept: tuple[float, StatusAnswer] | None = None

    def add_to(self, router: APIRouter) -> None:
        """Add the routes that have fixed names by convention."""
        unready: dict[int | str, dict[str, Any]] = {503: {"model": ProblemBody}}
        router.get("/healthz", summary="Whether the server lives")(self.health)
        router.get("/readyz", summary="Whether it can search", responses=unready)(self.ready)
        router.get("/metrics", summary="Counters for Prometheus", response_class=Response)(self.metrics)

    async def health(self) -> Probe:
        """Asks nothing of the cluster: restarting this server would not help against a cluster that is down."""
        return Probe(status="alive")

    async def ready(self) -> Probe:
        """Asks the cluster for the index."""
        try:
            await self._pool.run(self._index.count)
        except DeepTermsError as error:
            raise Problem(503, problem_of(error).detail) from error
        return Probe(status="ready")

    async def metrics(self) -> Response:
        """In Prometheus' own text format."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def status(self) -> StatusAnswer:
        """What is served; known for a while."""
        kept = self._kept
        if kept is not None and time.monotonic() - kept[0] < KEPT_SECONDS:
            return kept[1]
        return await self._pool.run(self._status)

    def _status(self) -> StatusAnswer:
        index = self._index
        size: int | None = None
        try:
            stats = index.stats()
            documents, engine, size = stats.documents, stats.engine, stats.bytes
        except ClusterError:  # sizes want the right to monitor, which a server that searches need not have
            documents, engine = index.count(), str(index.cluster.engine)
        answer = StatusAnswer(
            name=getattr(index, "name", "memory"),
            documents=documents,
            engine=engine,
            encoder=str(index.encoder),
            dimensions=index.encoder.dimensions,
            vocabulary_size=index.encoder.vocabulary_size,
            vectors=index.vectors,
            bytes=size,
            images=self._images,
            photographs=bool(self._photographs.roots),
            writable=not self._access.read_only,
            largest_k=self._limits.hits,
            largest_rerank=self._limits.candidates,
            image_bytes=self._limits.image_bytes,
            version=self.version,
        )
        with self._lock:
            self._kept = (time.monotonic(), answer)
        return answer
