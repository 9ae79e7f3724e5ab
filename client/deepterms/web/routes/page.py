"""The page and its parts, out of the package into answers that browsers keep until they change."""

from __future__ import annotations

import hashlib
from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from deepterms.web.errors import Problem

__all__ = ["page_routes"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes() -> APIRouter:
    """Routes of the page, which is read once."""
    parts = {
        part.name: (part.read_bytes(), media_type)
        for part in (resources.files("deepterms.web") / "static").iterdir()
        if (media_type := _TYPES.get(part.name[part.name.rfind(".") :]))
    }
    router = APIRouter(include_in_schema=False)

    def answer(request: Request, name: str) -> Response:
        if name not in parts:
            raise Problem(404, "there is no such page")
        content, media_type = parts[name]
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    @router.get("/")
    async def page(request: Request) -> Response:
        return answer(request, "index.html")

    @router.get("/static/{name}")
    async def part(request: Request, name: str) -> Response:
        return answer(request, name)

    @router.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return answer(request, "icon.svg")

    return router
