"""Envelope: what goes around every request: its id, its limits, its line in the log, and the headers of its answer."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepterms.web.access import Access
from deepterms.web.errors import PROBLEM_JSON, Problem
from deepterms.web.limits import Limits
from deepterms.web.metrics import Metrics

__all__ = ["Envelope", "request_id_of"]

STREAM_PATH = "/v1/documents/stream"  # of any length
IMAGE_PATH = "/v1/search/image"
FORM_BYTES = 64 << 10  # around a picture in a form

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    # A page from here runs scripts of its own files only, and shows pictures from here and those just dropped on it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-frame-options": "DENY",
}

logger = logging.getLogger("deepterms.web")


class Envelope:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        access: who may ask.
        limits: of bodies and of each client.
        metrics: to count in.
    """

    def __init__(self, app: ASGIApp, *, access: Access, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._metrics = metrics
        self._clients: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, begun = time.perf_counter(), 500, False
        client = (scope.get("client") or ("",))[0]

        async def sent(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                own = {name: value for name, value in _HEADERS.items() if not _has(message, name)}
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in own.items()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self._clients[client] += 1
        try:
            try:
                if self._clients[client] > self._limits.per_client:
                    raise Problem(429, f"more than {self._limits.per_client} requests of one address at once")
                self._access.check(
                    method=scope["method"],
                    path=scope["path"],
                    headers=headers,
                    cookies=_cookies(headers.get("cookie", "")),
                )
                limited = self._limited(scope, headers, receive)
            except Problem as problem:
                await answer_problem(problem, request_id, sent)
                return
            try:
                await self._app(scope, limited, sent)
            except Exception:  # an error in this program: its traceback is for the log, and the answer still an answer
                logger.exception("%s failed", request_id)
                if begun:
                    raise
                await answer_problem(Problem(500, "the server failed; its log says more"), request_id, sent)
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            seconds = time.perf_counter() - started
            route = str(getattr(scope.get("route"), "path", "none"))
            self._metrics.request(method=_known(scope["method"]), route=route, status=status, seconds=seconds)
            logger.info("%s %s %s %d %.1f ms", request_id, scope["method"], scope["path"], status, seconds * 1e3)

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """A `receive` that gives no more than the path may take.

        Raises:
            Problem: 413, the request says that it is longer.
        """
        path = scope["path"]
        if path == STREAM_PATH:
            return receive
        most = self._limits.image_bytes + FORM_BYTES if path == IMAGE_PATH else self._limits.json_bytes
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise _too_long(most)
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise _too_long(most)
            return message

        return limited


def request_id_of(scope: Scope) -> str:
    """The id of a request."""
    return str(scope["state"]["request_id"])


async def answer_problem(problem: Problem, request_id: str, send: Send) -> None:
    """Answer a request that goes no further."""
    body = problem.body(request_id).model_dump_json().encode()
    headers = {
        "content-type": PROBLEM_JSON,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        # What is left of the body is not read.
        "connection": "close",
        **{name.lower(): value for name, value in problem.headers.items()},
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _too_long(most: int) -> Problem:
    return Problem(413, f"the body is longer than the {most:,} bytes that are taken here")


def _has(message: Message, name: str) -> bool:
    return any(key.lower() == name.encode() for key, _ in message.get("headers", ()))


def _known(method: str) -> str:
    """A method as a label, of which there must not be any number."""
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs}
