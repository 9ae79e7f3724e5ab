"""Access: decides which requests are allowed, by token or cookie, by host name and by origin."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from deepterms.errors import InvalidInput
from deepterms.web.errors import HttpError

__all__ = ["COOKIE", "Access", "is_loopback"]

COOKIE = "deepterms_session"
MIN_TOKEN_LENGTH = 16  # characters
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The page and its files reveal nothing about the index, and health probes have no token.
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/v1/session"})
_OPEN_FOLDER = "/static/"


@dataclass(frozen=True)
class Access:
    """The access rules of a server.

    Attributes:
        token: required of every request; None allows all requests.
        hosts: host names under which the server may be addressed; None allows any. Without a token this blocks pages
            that have pointed their own host name at this machine (DNS rebinding).
        read_only: reject requests that add or delete documents.
    """

    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK_NAMES
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < MIN_TOKEN_LENGTH:
            raise InvalidInput(
                f"the token has {len(self.token)} characters; expected {MIN_TOKEN_LENGTH} or more, such as the output "
                "of `openssl rand -hex 24`"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InvalidInput(
                "the token has characters that clients send in different ways; expected printable ASCII, such as the "
                "output of `openssl rand -hex 24`"
            )

    @classmethod
    def of(cls, host: str, *, token: str | None, names: Iterable[str] = (), read_only: bool = False) -> Access:
        """Build the rules for a server from the address it listens on.

        Args:
            host: to listen on.
            token: required of every request.
            names: additional host names of this server, such as that of a reverse proxy.
            read_only: as in the class.

        Raises:
            InvalidInput: the address is reachable from other machines and the token is missing or too short.
        """
        if not is_loopback(host) and token is None:
            raise InvalidInput(
                f"{host or 'this address'} is reachable from other machines, so a token is required: write one to a "
                "file and pass --token-file, or listen on 127.0.0.1"
            )
        hosts = None if token is not None else LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in names}
        return cls(token=token, hosts=hosts, read_only=read_only)

    def check(self, *, method: str, path: str, headers: dict[str, str], cookies: dict[str, str]) -> None:
        """Raise unless a request is allowed.

        Args:
            method: in upper case.
            path: without the query string.
            headers: names in lower case.
            cookies: by name.

        Raises:
            HttpError: 421 for an unknown host name, 403 for a cross-site request, 401 without a valid token.
        """
        host = headers.get("host", "")
        if self.hosts is not None and _parse_name(host) not in self.hosts:
            raise HttpError(
                421, f"unknown host name {host[:100]!r}; to allow it, start `deepterms serve` with --name and that name"
            )
        if method not in _SAFE_METHODS:
            self._check_origin(host, headers)
        if self.token is None or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return
        if hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.sign_session().encode()):
            return
        raise HttpError(401, "missing or invalid bearer token", headers={"WWW-Authenticate": "Bearer"})

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; takes the same time for any text of its length."""
        return self.token is not None and hmac.compare_digest(
            given.encode("utf-8", "surrogatepass"), self.token.encode()
        )

    def sign_session(self) -> str:
        """The value of the session cookie, derived from the token without revealing it."""
        return hmac.new((self.token or "").encode(), b"deepterms session, version 1", hashlib.sha256).hexdigest()

    def _check_origin(self, host: str, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} or (
            origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        ):
            raise HttpError(403, "cross-site request rejected")


def is_loopback(host: str) -> bool:
    """Whether an address is reachable only from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
