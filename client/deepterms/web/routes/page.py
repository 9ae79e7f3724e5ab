"""Page routes: serve the search page and its files from the package, cached by browsers until they change."""

from __future__ import annotations

import hashlib
from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from deepterms.web.errors import HttpError

__all__ = ["add_page_routes"]

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_page_routes(router: APIRouter) -> None:
    """Read the files of the page, once, and add their routes."""
    files = {
        file.name: (file.read_bytes(), media_type)
        for file in (resources.files("deepterms.web") / "static").iterdir()
        if (media_type := _MEDIA_TYPES.get(file.name[file.name.rfind(".") :]))
    }

    def respond(request: Request, name: str) -> Response:
        if name not in files:
            raise HttpError(404, "page not found")
        content, media_type = files[name]
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    @router.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return respond(request, "index.html")

    @router.get("/static/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return respond(request, name)

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return respond(request, "icon.svg")
