"""Uploads: turns request bodies other than JSON into an image, bare or from a form, or into lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deepterms.web.errors import HttpError, parse_media_type
from deepterms.web.json_bodies import read_body
from deepterms.web.limits import Limits

__all__ = ["FORM_FIELD", "read_image", "split_lines"]

FORM_FIELD = "image"


async def read_image(request: Request, limits: Limits) -> bytes | bytearray:
    """Read the image in a request.

    Args:
        request: whose body is an image, or a form with one file named ``image``.
        limits: on its size.

    Raises:
        HttpError: 413, 415 or 422; 408 from the middleware, which limits the time that a body takes to arrive.
    """
    media_type = parse_media_type(request)
    if not (media_type.startswith("image/") or media_type in {"application/octet-stream", "multipart/form-data"}):
        raise HttpError(
            415,
            "unsupported media type; send the image as the body with Content-Type: image/…, or as the file `image` of "
            "a form",
        )
    content = await (_read_form(request) if media_type == "multipart/form-data" else read_body(request))
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


async def split_lines(chunks: AsyncIterator[bytes], *, max_line: int, seconds: float) -> AsyncIterator[bytes]:
    r"""Split a stream into lines, without their ``\n``; empty lines are skipped.

    Args:
        chunks: of any size.
        max_line: length limit of a line in bytes.
        seconds: time limit for a line to arrive; a stream has no other.

    Raises:
        HttpError: 413, a line is too long; 408, it took too long.
    """
    rest = bytearray()
    waited = 0.0  # for the rest of this line; the time that its reader takes does not count
    while True:
        asked = time.monotonic()
        try:
            chunk = await asyncio.wait_for(anext(chunks), seconds - waited)
        except StopAsyncIteration:
            break
        except (TimeoutError, asyncio.TimeoutError):
            raise HttpError(408, f"a line did not arrive within {seconds:g} s") from None
        waited = 0.0 if b"\n" in chunk else waited + time.monotonic() - asked
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


def _too_long(max_line: int) -> HttpError:
    return HttpError(413, f"line too long; the limit is {max_line:,} bytes")
