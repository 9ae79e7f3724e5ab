"""Access: who may ask at all: by token or cookie, under which names, from which pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from deepterms.errors import InvalidInput
from deepterms.web.errors import Problem

__all__ = ["COOKIE", "Access", "is_loopback"]

COOKIE = "deepterms_session"
MIN_TOKEN = 16  # characters
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The page itself and its parts tell nothing of the index, and probes have no tokens.
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/v1/session"})
_OPEN_FOLDER = "/static/"


@dataclass(frozen=True)
class Access:
    """The rules.

    Attributes:
        token: that requests must show; None: all may ask.
        hosts: names under which the server may be addressed; None: any. Without a token this keeps away pages whose
            own name was turned to this machine's address (DNS rebinding).
        read_only: refuse to add and delete.
    """

    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK_NAMES
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise InvalidInput(
                f"the token has {len(self.token)} characters; expected {MIN_TOKEN} or more, such as those of "
                "`openssl rand -hex 24`"
            )

    @classmethod
    def of(cls, host: str, *, token: str | None, names: Iterable[str] = (), read_only: bool = False) -> Access:
        """The rules for an address to listen at.

        Args:
            host: to listen at.
            token: that requests must show.
            names: further names of this server, of a proxy before it.
            read_only: as in the class.

        Raises:
            InvalidInput: the address can be reached from other machines and there is no token, or a short one.
        """
        if not is_loopback(host) and token is None:
            raise InvalidInput(
                f"{host} can be reached from other machines, so a token is needed: put one into a file and pass "
                "--token-file, or listen at 127.0.0.1"
            )
        hosts = None if token is not None else LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in names}
        return cls(token=token, hosts=hosts, read_only=read_only)

    def check(self, *, method: str, path: str, headers: dict[str, str], cookies: dict[str, str]) -> None:
        """Let a request pass.

        Args:
            method: in capitals.
            path: without the query.
            headers: names in lower case.
            cookies: by name.

        Raises:
            Problem: 421 for a name that is not this server's, 403 for what another site's page sends, 401 without
                the token.
        """
        host = headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            raise Problem(421, f"this server is not called {host[:100]!r}; pass --name to `deepterms serve` if it is")
        if method not in _SAFE_METHODS:
            self._check_origin(host, headers)
        if self.token is None or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return
        if hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.session().encode()):
            return
        raise Problem(
            401, "this server wants its token: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"}
        )

    def is_token(self, given: str) -> bool:
        """Whether a text is the token, compared in constant time."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def session(self) -> str:
        """What the cookie holds: made from the token, which it does not give away."""
        return hmac.new((self.token or "").encode(), b"deepterms session, version 1", hashlib.sha256).hexdigest()

    def _check_origin(self, host: str, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} or (
            origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        ):
            raise Problem(403, "a page of another site may not send this")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
