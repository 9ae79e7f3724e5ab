"""HttpError: turns every failure into an HTTP status and a sentence, sent as RFC 9457 problem details."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from deepterms.errors import (
    ClusterError,
    ClusterUnreachable,
    DeepTermsError,
    InvalidInput,
    RequestRejected,
    TooManyPixels,
)

__all__ = [
    "PROBLEM_JSON",
    "HttpError",
    "ProblemDetails",
    "describe_errors",
    "parse_media_type",
    "require_json",
    "to_http_error",
]

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER = 1  # seconds

_COMMON_STATUSES = frozenset({401, 403, 413, 421, 422, 429, 500, 502, 503, 504})


class HttpError(DeepTermsError):
    """A request that fails with an HTTP status.

    Attributes:
        status: of the response.
        detail: what went wrong and what to do about it.
        headers: of the response; 429 and 503 include ``Retry-After``.
    """

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        if status in {429, 503}:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER))

    def details(self, request_id: str) -> ProblemDetails:
        """The body of the response."""
        title = HTTPStatus(self.status).phrase
        return ProblemDetails(title=title, status=self.status, detail=self.detail, request_id=request_id)


class ProblemDetails(BaseModel):
    """The body of every error response (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    request_id: str


def to_http_error(error: DeepTermsError) -> HttpError:
    """Convert an error of this package into what a client of the API may see.

    Messages from the cluster can name credentials, addresses and indices, so they are not passed on.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, TooManyPixels):
        return HttpError(413, f"the image has {error.pixels:,} pixels; the limit is {error.allowed:,}")
    if isinstance(error, InvalidInput):
        return HttpError(422, str(error))
    if isinstance(error, RequestRejected):
        if error.status == 400:
            return HttpError(422, str(error))
        if error.status in {408, 429, 503}:
            return HttpError(503, "the cluster is overloaded; retry later")
        if error.status == 404:  # IndexNotFound among them
            return HttpError(503, "the index no longer exists")
        return HttpError(502, f"the cluster rejected the server's request (HTTP {error.status})")
    if isinstance(error, ClusterUnreachable):
        return HttpError(503, "the cluster does not respond; retry later")
    if isinstance(error, ClusterError):
        return HttpError(502, "invalid response from the cluster; see the server log")
    return HttpError(500, "internal server error; see the server log")


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the OpenAPI description.

    Args:
        statuses: in addition to those that every route can return.
    """
    content = {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}}
    return {
        status: {"content": content, "description": HTTPStatus(status).phrase, "model": ProblemDetails}
        for status in sorted(_COMMON_STATUSES.union(statuses))
    }


def parse_media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Reject a body that is not declared as JSON: a form on another site can send any other type.

    Raises:
        HttpError: 415.
    """
    if parse_media_type(request) != "application/json":
        raise HttpError(415, "unsupported media type; send JSON with Content-Type: application/json")
