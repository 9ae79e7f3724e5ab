"""Connections: a uvicorn configuration whose connections are bounded in number, and in time without a request.

uvicorn alone waits for the headers of a request without limit, and so for a client that does not read its response.
Once such connections use up the files that a process may open, nobody else can connect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp

from deepterms.optional import require
from deepterms.web.limits import Limits

with require("uvicorn", "serve"):
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BACKLOG", "make_config"]

BACKLOG = 64  # connections that are accepted at once
OTHER_FILES = 64  # connections to the cluster, pipes of the decoder, photographs


def make_config(app: ASGIApp, limits: Limits, *, trusted_proxies: Sequence[str] = (), **options: Any) -> uvicorn.Config:
    """Create the configuration of a server with limits on connections.

    Args:
        app: the application.
        limits: among them those on connections.
        trusted_proxies: addresses of reverse proxies, whose X-Forwarded-For and X-Forwarded-Proto are believed. Those
            of any other client are ignored, because they would make it many clients.
        options: of `uvicorn.Config`.
    """
    return uvicorn.Config(
        app,
        http=_make_protocol(limits),
        ws="none",
        backlog=BACKLOG,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        access_log=False,
        server_header=False,
        lifespan="on",
        **options,
    )


def _count_connections(limits: Limits) -> int:
    """The limit on connections, or less where the process may not open so many files."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return limits.connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.connections
    others = BACKLOG + OTHER_FILES
    if soft < limits.connections + others:
        soft = limits.connections + others
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(limits.connections, max(soft // 4, soft - others))


def _make_protocol(limits: Limits) -> type[H11Protocol]:
    most = _count_connections(limits)
    waiting: dict[_Guarded, None] = {}  # connections without a request, the longest wait first

    class _Guarded(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._follow_request()
            if len(self.connections) > most:
                next(iter(waiting), self).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._follow_request()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._follow_request()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self._write_timer or self.loop.call_later(limits.seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _follow_request(self) -> None:
            """Limit the time until the next request is complete up to its headers."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._header_timer is None and not self.transport.is_closing():
                waiting[self] = None
                self._header_timer = self.loop.call_later(limits.header_seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            waiting.pop(self, None)
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

    return _Guarded
