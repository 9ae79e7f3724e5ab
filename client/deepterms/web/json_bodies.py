"""JSON bodies into request models, in threads and in bounded steps, whatever a client sends.

A parser written in C holds Python's global lock until it returns, and so does validation. Eight megabytes of brackets
or of numbers would stop every other request for seconds. So the number of values is bounded before they are parsed,
each document of a batch is parsed by itself, and a container is measured before its elements are validated (`schemas`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from deepterms.web.errors import HttpError, require_json
from deepterms.web.schemas import MAX_BATCH, AddRequest, NewDocument, describe_first_error
from deepterms.web.server import Server

__all__ = ["make_route_class", "parse_document", "parse_json", "read_body"]

SMALL = 64 << 10  # bytes
MAX_CONTAINERS = 10_000
MAX_VALUES = 200_000
MAX_AROUND = 64 << 10  # bytes of a batch outside its documents

_STRUCTURE = re.compile(rb'["\[\]{}]')


def make_route_class(server: Server) -> type[APIRoute]:
    """Make the class of routes that parse their JSON body with `parse_body`, in a thread unless it is small."""

    class JsonRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            model = get_type_hints(self.endpoint).get("body")
            if model is None:
                return handle

            async def parse_first(request: Request) -> Response:
                require_json(request)
                content = await read_body(request)
                most = server.limits.line_bytes
                if len(content) <= SMALL:  # a few milliseconds, and not behind the bodies of others
                    parsed = parse_body(content, model, most=most)
                else:
                    parsed = await server.pools.parsings.run(lambda: parse_body(content, model, most=most))
                return await handle(_ParsedRequest(request, parsed))

            return parse_first

    return JsonRoute


class _ParsedRequest(Request):
    """A request whose body FastAPI finds parsed and validated."""

    def __init__(self, request: Request, parsed: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._parsed = parsed

    async def body(self) -> bytes:
        return b"{}"  # not empty; FastAPI reads no more of it

    async def json(self) -> BaseModel:
        return self._parsed


async def read_body(request: Request) -> bytearray:
    """Read the whole body into one piece of memory, which is given back as a whole."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
    return content


def parse_body(content: bytearray, model: type[BaseModel], *, most: int) -> BaseModel:
    """Parse and validate a body.

    Args:
        content: of the body.
        model: that it must conform to.
        most: size limit of one document of a batch, in bytes.

    Raises:
        HttpError: 422, it is not JSON or does not conform.
    """
    try:
        return _parse_batch(content, most=most) if model is AddRequest else model.model_validate(parse_json(content))
    except ValidationError as error:
        raise HttpError(422, f"body.{describe_first_error(error)}") from None
    except ValueError as error:
        raise HttpError(422, f"body: {error}") from None


def parse_document(content: bytes | bytearray) -> NewDocument:
    """Parse one document.

    Raises:
        ValueError: it is not valid; the message says why.
    """
    try:
        return NewDocument.model_validate(parse_json(content))
    except ValidationError as error:
        raise ValueError(describe_first_error(error)) from None


def parse_json(content: bytes | bytearray) -> Any:
    """Parse JSON of a bounded number of values.

    Raises:
        ValueError: it is not JSON, or has too many values; the message says why.
    """
    if content.count(b"[") + content.count(b"{") > MAX_CONTAINERS or content.count(b",") > MAX_VALUES:
        raise ValueError(f"too many values; expected at most {MAX_CONTAINERS:,} brackets and {MAX_VALUES:,} commas")
    try:
        return from_json(content)
    except ValueError as error:
        raise ValueError(f"invalid JSON: {error}") from None


def _parse_batch(content: bytearray, *, most: int) -> BaseModel:
    """Parse an `AddRequest` document by document.

    Raises:
        ValueError: it is not valid; the message says why.
    """
    begin, end, documents = _find_documents(content, most=most)
    if len(content) - (end - begin) > MAX_AROUND:
        raise ValueError(f"more than {MAX_AROUND:,} bytes outside the documents")
    batch = parse_json(content[:begin] + content[end:])
    if not documents:
        return AddRequest.model_validate(batch)
    parsed = []
    for number, (start, stop) in enumerate(documents):
        try:
            parsed.append(parse_document(content[start:stop]))
        except ValueError as error:
            raise HttpError(422, f"body.documents.{number}: {error}") from None
    if not isinstance(batch, dict) or batch.get("documents") != []:
        raise ValueError("expected one array `documents`")
    return AddRequest.model_validate(batch | {"documents": parsed})


def _find_documents(content: bytearray, *, most: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Find the first array in the outermost object, and the objects in it, without parsing them.

    Returns:
        Where the elements of the array begin and end, and where each object begins and ends; (0, 0, []) without array.
    """
    documents: list[tuple[int, int]] = []
    depth, begin, start, position = 0, -1, 0, 0
    while found := _STRUCTURE.search(content, position):
        mark, position = found.group(), found.end()
        if mark == b'"':
            position = _skip_string(content, position)
        elif mark in (b"[", b"{"):
            depth += 1
            if depth == 2 and mark == b"[":
                begin = start = position
            elif depth == 3 and begin >= 0:
                _check_gap(content[start : position - 1], b"," if documents else b"", len(documents))
                start = position - 1
        else:
            depth -= 1
            if depth == 2 and begin >= 0:
                documents.append((start, position))
                start = position
            elif depth == 1 and begin >= 0:
                _check_gap(content[start : position - 1], b"", len(documents))
                return begin, position - 1, documents
            elif depth <= 0:
                break
        if len(documents) > MAX_BATCH:
            raise ValueError(f"documents: more than {MAX_BATCH:,}; send them in several requests, or as a stream")
        if depth > 2 and position - start > most:
            raise ValueError(f"documents.{len(documents)}: more than {most:,} bytes")
        if depth < 3 and begin < 0 and position > MAX_AROUND:
            break
    return 0, 0, []


def _check_gap(gap: bytearray, expected: bytes, number: int) -> None:
    if gap.strip(b" \t\r\n") != expected:
        raise ValueError(f"documents.{number}: expected an object")


def _skip_string(content: bytearray, position: int) -> int:
    """Return the position after the string that began before `position`."""
    while (quote := content.find(b'"', position)) >= 0:
        escapes = quote - len(content[position:quote].rstrip(b"\\")) - position
        position = quote + 1
        if escapes % 2 == 0:
            return position
    return len(content)
