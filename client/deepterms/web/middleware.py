"""Middleware: gives every request an id, checks access and limits, and adds security headers to the response."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deepterms.web.budget import ByteBudget, TokenBudget
from deepterms.web.errors import PROBLEM_JSON, HttpError
from deepterms.web.limits import Limits
from deepterms.web.log_lines import printable
from deepterms.web.server import Server
from deepterms.web.stream import BATCH_BYTES

__all__ = ["Middleware", "request_id_of"]

STREAM_PATH = "/v1/documents/stream"  # its body may have any length
IMAGE_PATH = "/v1/search/image"
BATCH_PATHS = frozenset({"/v1/documents", "/v1/documents/delete"})
PROBE_PATH = "/healthz"
SESSION_PATH = "/v1/session"
CLIENT_CLOSED = 499  # no response was sent; the status is for the log and the metrics
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
        server: its access rules, its limits on bodies, clients and tokens, and the metrics that count its requests.
    """

    def __init__(self, app: ASGIApp, *, server: Server) -> None:
        self._app = app
        self._server = server
        self._clients: Counter[str] = Counter()
        self._bytes = ByteBudget(server.limits.held_bytes)
        self._tokens = TokenBudget()

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
        tries_token = self._server.access.token is not None and (
            "authorization" in headers or scope["path"] == SESSION_PATH
        )
        body = _Body(scope["path"], headers, receive, budget=self._bytes, limits=self._server.limits)

        async def send_with_headers(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                status = message["status"]
                own = {name: value for name, value in _HEADERS.items() if not _has(message, name)}
                if body.is_unread and not _has(message, "connection"):
                    own["connection"] = "close"  # rather than wait for a body that nobody reads
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in own.items()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self._clients[client] += 1
        try:
            try:
                # Probes come from anywhere, also from the address of a proxy that all others come from.
                if scope["path"] != PROBE_PATH and self._clients[client] > (most := self._server.limits.per_client):
                    raise HttpError(429, f"more than {most} concurrent requests from one address; retry later")
                if tries_token:
                    self._tokens.check(client)
                self._server.access.check(
                    method=scope["method"],
                    path=scope["path"],
                    headers=headers,
                    cookies=_parse_cookies(headers.get("cookie", "")),
                )
                body.check_length()
            except HttpError as error:
                await send_error(error, request_id, send_with_headers)
                return
            try:
                await self._app(scope, body.receive, send_with_headers)
            except ClientDisconnect:
                status = CLIENT_CLOSED
                logger.info("%s the client closed the connection before the whole body had arrived", request_id)
            except Exception:  # a bug: the traceback goes to the log, not to the client
                logger.exception("%s failed", request_id)
                if has_begun:
                    raise
                await send_error(
                    HttpError(500, "internal server error; see the server log"), request_id, send_with_headers
                )
        finally:
            body.give_back()
            if tries_token and status == 401:
                self._tokens.spend(client)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            seconds = time.perf_counter() - started
            route = str(getattr(scope.get("route"), "path", "none"))
            self._server.metrics.count_request(
                method=_to_label(scope["method"]), route=route, status=status, seconds=seconds
            )
            path = printable(scope.get("raw_path", b"").decode("latin-1") or scope["path"])
            logger.info("%s %s %s %d %.1f ms", request_id, printable(scope["method"]), path, status, seconds * 1e3)


class _Body:
    """The body of one request, with the limits on its size, on its time, and on what the server holds in all."""

    def __init__(
        self, path: str, headers: dict[str, str], receive: Receive, *, budget: ByteBudget, limits: Limits
    ) -> None:
        self._receive = receive
        self._budget = budget
        self._declared = headers.get("content-length", "")
        self._is_stream = path == STREAM_PATH
        self._seconds = limits.seconds
        self._most = limits.query_bytes
        if path == IMAGE_PATH:
            self._most = limits.image_bytes + FORM_BYTES
        elif path in BATCH_PATHS:
            self._most = limits.json_bytes
        self._stream_bytes = limits.line_bytes + 2 * BATCH_BYTES  # its rest of a line, its batch, and their documents
        self._received = 0
        self._held = 0
        self._is_complete = self._declared in ("", "0") and "transfer-encoding" not in headers
        self._deadline: float | None = None

    @property
    def is_unread(self) -> bool:
        """Whether some of it has not been received, and will not be once the response begins."""
        return not self._is_complete and not self._is_stream

    def check_length(self) -> None:
        """Raise if the declared length exceeds the limit; hold the bytes of a stream.

        Raises:
            HttpError: 413, or 503 if the server holds too many bytes.
        """
        if self._is_stream:
            self._hold(self._stream_bytes)
        elif self._declared.isdecimal() and int(self._declared[:20]) > self._most:
            raise _too_long(self._most)

    async def receive(self) -> Message:
        """Receive the next part.

        Raises:
            HttpError: 408, 413, or 503 if the server holds too many bytes.
        """
        if self._is_stream or self._is_complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._deadline = self._deadline or now + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), self._deadline - now)
        except (TimeoutError, asyncio.TimeoutError):
            raise HttpError(408, f"the body did not arrive within {self._seconds:g} s") from None
        count = len(message.get("body", b""))
        self._received += count
        if self._received > self._most:
            raise _too_long(self._most)
        self._hold(count)
        self._is_complete = not message.get("more_body", False)
        return message

    def give_back(self) -> None:
        """Hold nothing any longer."""
        self._budget.give_back(self._held)
        self._held = 0

    def _hold(self, count: int) -> None:
        self._budget.take(count)
        self._held += count


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
