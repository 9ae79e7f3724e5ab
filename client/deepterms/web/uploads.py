"""Bodies: what a request carries that is no JSON object: a picture, bare or in a form, and lines of documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deepterms.web.errors import Problem
from deepterms.web.limits import Limits
from deepterms.web.schemas import NewDocument, first_error

__all__ = ["lines_of", "new_document", "picture_of"]

FIELD = "image"  # of a form


async def picture_of(request: Request, limits: Limits) -> bytes:
    """The picture in a request.

    Args:
        request: whose body is a picture, or a form with one file called ``image``.
        limits: of its size, and of the time in which it arrives.

    Raises:
        Problem: 408, 413, 415 or 422.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind in {"application/octet-stream", "multipart/form-data"}):
        raise Problem(415, "send the picture as the body, Content-Type: image/…, or as the file `image` of a form")
    try:
        read = _of_form(request) if kind == "multipart/form-data" else request.body()
        content = await asyncio.wait_for(read, limits.seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise Problem(408, f"the picture did not arrive within {limits.seconds:g} s") from None
    if len(content) > limits.image_bytes:
        raise Problem(413, f"the picture has {len(content):,} bytes; at most {limits.image_bytes:,} are taken")
    if not content:
        raise Problem(422, "there is no picture in the request")
    return content


async def _of_form(request: Request) -> bytes:
    try:
        form = await MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise Problem(422, f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError):  # of the parser, without a boundary
        raise Problem(422, "the form cannot be read: its Content-Type names no boundary") from None
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise Problem(422, f"the form has no file called {FIELD!r}")
        return await file.read()
    finally:
        await form.close()


async def lines_of(chunks: AsyncIterator[bytes], *, longest: int) -> AsyncIterator[bytes]:
    """The lines of a stream, without their ends; empty ones are left out.

    Args:
        chunks: of any size.
        longest: bytes of a line.

    Raises:
        Problem: 413, a line is longer.
    """
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        *whole, last = rest.split(b"\n") if b"\n" in chunk else [rest]
        for line in whole:
            if len(line) > longest:
                raise _too_long(longest)
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > longest:
            raise _too_long(longest)
    if rest.strip():
        yield bytes(rest)


def new_document(line: bytes) -> NewDocument:
    """One line of a stream.

    Raises:
        ValueError: it is no document; the message says why.
    """
    try:
        return NewDocument.model_validate(json.loads(line))
    except ValidationError as error:
        raise ValueError(first_error(error)) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _too_long(longest: int) -> Problem:
    return Problem(413, f"a line is longer than the {longest:,} bytes that are taken")
