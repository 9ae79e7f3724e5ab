"""Middleware: gives every request an id, checks access and limits, and adds security headers to the response."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepterms.web.errors import PROBLEM_JSON, HttpError
from deepterms.web.server import Server

__all__ = ["Middleware", "request_id_of"]

STREAM_PATH = "/v1/documents/stream"  # its body may have any length
IMAGE_PATH = "/v1/search/image"
FORM_BYTES = 64 << 10  # allowance for the parts of a form around the image

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    # Scripts and styles only from this server; images from here or dropped on the page (blob:).
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


class Middleware:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        server: its access rules, its limits on bodies and clients, and the metrics that count its requests.
    """

    def __init__(self, app: ASGIApp, *, server: Server) -> None:
        self._app = app
        self._server = server
        self._clients: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status, has_begun = time.perf_counter(), 500, False
        client = (scope.get("client") or ("",))[0]

        async def send_with_headers(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
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
                if self._clients[client] > (most := self._server.limits.per_client):
                    raise HttpError(429, f"more than {most} concurrent requests from one address; retry later")
                self._server.access.check(
                    method=scope["method"],
                    path=scope["path"],
                    headers=headers,
                    cookies=_parse_cookies(headers.get("cookie", "")),
                )
                limited = self._limit_body(scope, headers, receive)
            except HttpError as error:
                await send_error(error, request_id, send_with_headers)
                return
            try:
                await self._app(scope, limited, send_with_headers)
            except Exception:  # a bug: the traceback goes to the log, not to the client
                logger.exception("%s failed", request_id)
                if has_begun:
                    raise
                await send_error(
                    HttpError(500, "internal server error; see the server log"), request_id, send_with_headers
                )
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            seconds = time.perf_counter() - started
            route = str(getattr(scope.get("route"), "path", "none"))
            self._server.metrics.count_request(
                method=_to_label(scope["method"]), route=route, status=status, seconds=seconds
            )
            logger.info("%s %s %s %d %.1f ms", request_id, scope["method"], scope["path"], status, seconds * 1e3)

    def _limit_body(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """Wrap `receive` so that it fails once the body exceeds the limit of its path.

        Raises:
            HttpError: 413, the Content-Length already exceeds it.
        """
        path = scope["path"]
        if path == STREAM_PATH:
            return receive
        limits = self._server.limits
        most = limits.image_bytes + FORM_BYTES if path == IMAGE_PATH else limits.json_bytes
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise _too_long(most)
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_long(most)
            return message

        return limited


def request_id_of(scope: Scope) -> str:
    """The id that the middleware gave a request."""
    return str(scope["state"]["request_id"])


async def send_error(error: HttpError, request_id: str, send: Send) -> None:
    """Send an error response without calling the application."""
    body = error.details(request_id).model_dump_json().encode()
    headers = {
        "content-type": PROBLEM_JSON,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        # The rest of the request body is not read.
        "connection": "close",
        **{name.lower(): value for name, value in error.headers.items()},
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _too_long(most: int) -> HttpError:
    return HttpError(413, f"request body too large; the limit is {most:,} bytes")


def _has(message: Message, name: str) -> bool:
    return any(key.lower() == name.encode() for key, _ in message.get("headers", ()))


def _to_label(method: str) -> str:
    """The label of a method; unknown methods share one, so that clients cannot create labels without bound."""
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"


def _parse_cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs}
