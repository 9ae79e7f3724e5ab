"""Problems: an HTTP status and a sentence for everything that can go wrong, as RFC 9457 has it."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field

from deepterms.errors import (
    ClusterError,
    ClusterUnreachable,
    DeepTermsError,
    IndexNotFound,
    InvalidInput,
    RequestRejected,
    TooManyPixels,
)

__all__ = ["PROBLEM_JSON", "Problem", "ProblemBody", "problem_of"]

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER = 1  # seconds


class Problem(DeepTermsError):
    """A request that is not answered.

    Attributes:
        status: of the answer.
        detail: what was wrong, and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        if status in {429, 503}:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER))

    def body(self, request_id: str) -> ProblemBody:
        """The answer's body."""
        title = HTTPStatus(self.status).phrase
        return ProblemBody(title=title, status=self.status, detail=self.detail, request_id=request_id)


class ProblemBody(BaseModel):
    """What a request that failed is answered with."""

    model_config = ConfigDict(frozen=True)

    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    request_id: str


def problem_of(error: DeepTermsError) -> Problem:
    """The problem that an error of this package is, seen from outside.

    What the cluster says of its own credentials, addresses and indices stays here.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, TooManyPixels):
        return Problem(413, f"the picture has {error.pixels:,} pixels; at most {error.allowed:,} are taken")
    if isinstance(error, InvalidInput):
        return Problem(422, str(error))
    if isinstance(error, RequestRejected):
        if error.status == 400:
            return Problem(422, str(error))
        if error.status in {408, 429, 503}:
            return Problem(503, "the cluster is too busy; try again")
        if error.status == 404:
            return Problem(503, "the index is not there any more")
        return Problem(502, f"the cluster refused what this server asked of it (HTTP {error.status})")
    if isinstance(error, ClusterUnreachable):
        return Problem(503, "the cluster does not answer; try again")
    if isinstance(error, IndexNotFound):
        return Problem(503, "the index is not there any more")
    if isinstance(error, ClusterError):
        return Problem(502, "the cluster's answer cannot be used; the server's log says more")
    return Problem(500, "the server failed; its log says more")
