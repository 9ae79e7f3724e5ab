"""Uploads: turns request bodies other than JSON into an image, bare or from a form, or into lines of documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deepterms.web.errors import HttpError, parse_media_type
from deepterms.web.limits import Limits
from deepterms.web.schemas import NewDocument, describe_first_error

__all__ = ["FORM_FIELD", "parse_document", "read_image", "split_lines"]

FORM_FIELD = "image"


async def read_image(request: Request, limits: Limits) -> bytes:
    """Read the image in a request.

    Args:
        request: whose body is an image, or a form with one file named ``image``.
        limits: on its size and on the time it takes to arrive.

    Raises:
        HttpError: 408, 413, 415 or 422.
    """
    media_type = parse_media_type(request)
    if not (media_type.startswith("image/") or media_type in {"application/octet-stream", "multipart/form-data"}):
        raise HttpError(
            415,
            "unsupported media type; send the image as the body with Content-Type: image/…, or as the file `image` of "
            "a form",
        )
    try:
        body = _read_form(request) if media_type == "multipart/form-data" else request.body()
        content = await asyncio.wait_for(body, limits.seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise HttpError(408, f"the image did not arrive within {limits.seconds:g} s") from None
    if len(content) > limits.image_bytes:
        raise HttpError(413, f"the image has {len(content):,} bytes; the limit is {limits.image_bytes:,}")
    if not content:
        raise HttpError(422, "the request contains no image")
    return content


async def _read_form(request: Request) -> bytes:
    try:
        form = await MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise HttpError(422, f"invalid form: {error.message}") from None
    except (KeyError, ValueError):  # raised by the parser when the boundary is missing
        raise HttpError(422, "invalid form: its Content-Type has no boundary") from None
    try:
        file = form.get(FORM_FIELD)
        if not isinstance(file, UploadFile):
            raise HttpError(422, f"the form has no file named {FORM_FIELD!r}")
        return await file.read()
    finally:
        await form.close()


async def split_lines(chunks: AsyncIterator[bytes], *, max_line: int) -> AsyncIterator[bytes]:
    r"""Split a stream into lines, without their ``\n``; empty lines are skipped.

    Args:
        chunks: of any size.
        max_line: length limit of a line in bytes.

    Raises:
        HttpError: 413, a line is too long.
    """
    rest = bytearray()
    async for chunk in chunks:
        rest += chunk
        *whole, last = rest.split(b"\n") if b"\n" in chunk else [rest]
        for line in whole:
            if len(line) > max_line:
                raise _too_long(max_line)
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > max_line:
            raise _too_long(max_line)
    if rest.strip():
        yield bytes(rest)


def parse_document(line: bytes) -> NewDocument:
    """Parse one line of a stream.

    Raises:
        ValueError: it is not a valid document; the message says why.
    """
    try:
        return NewDocument.model_validate(json.loads(line))
    except ValidationError as error:
        raise ValueError(describe_first_error(error)) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from None


def _too_long(max_line: int) -> HttpError:
    return HttpError(413, f"line too long; the limit is {max_line:,} bytes")
