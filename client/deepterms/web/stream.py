"""StreamingResponse: indexes a stream of documents batch by batch, in bounded memory, and reports after each batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deepterms.errors import DeepTermsError
from deepterms.web.errors import to_http_error
from deepterms.web.limits import Limits
from deepterms.web.schemas import DocumentFailure, NewDocument, StreamLine, WriteResponse
from deepterms.web.uploads import split_lines

__all__ = ["NDJSON", "StreamingResponse", "index_stream"]

NDJSON = "application/x-ndjson"
BATCH_DOCUMENTS = 500
BATCH_BYTES = 4 << 20

Add = Callable[[list[NewDocument]], Awaitable[WriteResponse]]
Parse = Callable[[list[bytes]], Awaitable[list[NewDocument | ValueError]]]


async def index_stream(
    chunks: AsyncIterator[bytes], add: Add, parse: Parse, *, limits: Limits
) -> AsyncIterator[StreamLine]:
    """Index a stream of lines, each of which is one document.

    Args:
        chunks: of the request body.
        add: indexes one batch.
        parse: parses some lines.
        limits: among them those on a line.

    Yields:
        One line after each batch and a final one, which has either ``done`` or an ``error``.
    """
    succeeded, number, size = 0, 0, 0
    batch: list[bytes] = []

    async def index_batch() -> WriteResponse:
        documents, failed = [], []
        for place, parsed in enumerate(await parse(batch), number - len(batch) + 1):
            if isinstance(parsed, ValueError):
                failed.append(DocumentFailure(id=f"line {place}", reason=str(parsed)))
            else:
                documents.append(parsed)
        report = await add(documents) if documents else WriteResponse(succeeded=0, failed=[])
        return WriteResponse(succeeded=report.succeeded, failed=[*failed, *report.failed])

    try:
        async for line in split_lines(chunks, max_line=limits.line_bytes, seconds=limits.seconds):
            batch.append(line)
            number, size = number + 1, size + len(line)
            if len(batch) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                report = await index_batch()
                succeeded += report.succeeded
                yield StreamLine(succeeded=succeeded, failed=report.failed)
                batch, size = [], 0
        report = await index_batch()
        yield StreamLine(succeeded=succeeded + report.succeeded, failed=report.failed, done=True)
    except ClientDisconnect:
        return  # nobody is left to report to; what was indexed stays
    except DeepTermsError as error:
        yield StreamLine(succeeded=succeeded, error=to_http_error(error).detail)


class StreamingResponse(Response):
    """A response whose lines are sent while the request is still being read.

    Starlette's own streaming response listens for a disconnect in the meantime, which would consume the request body.
    """

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[StreamLine]) -> None:
        self._lines = lines
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        async for line in self._lines:
            body = line.model_dump_json(exclude_none=True).encode() + b"\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
