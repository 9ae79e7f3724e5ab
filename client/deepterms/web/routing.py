"""Routing: what all routes have in common: the problems in their description, and which bodies they take."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from deepterms.web.errors import PROBLEM_JSON, Problem, ProblemBody

__all__ = ["json_only", "media_type_of", "problems"]


def media_type_of(request: Request) -> str:
    """The Content-Type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may be refused with, for the description; some hold for all routes."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {
        status: {"content": content, "description": "see above", "model": ProblemBody}
        for status in sorted({401, 403, 413, 421, 422, 429, 500, 502, 503, 504, *statuses})
    }


def json_only(request: Request) -> None:
    """Refuse bodies that do not say that they are JSON: a form of another site's page can send those.

    Raises:
        Problem: 415.
    """
    if media_type_of(request) != "application/json":
        raise Problem(415, "send JSON, with Content-Type: application/json")
