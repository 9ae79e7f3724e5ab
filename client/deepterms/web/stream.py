"""StreamingResponse: indexes a stream of documents batch by batch, in bounded memory, and reports after each batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deepterms.errors import DeepTermsError
from deepterms.web.errors import to_http_error
from deepterms.web.schemas import DocumentFailure, NewDocument, StreamLine, WriteResponse
from deepterms.web.uploads import parse_document, split_lines

__all__ = ["NDJSON", "StreamingResponse", "index_stream"]

NDJSON = "application/x-ndjson"
BATCH_DOCUMENTS = 500
BATCH_BYTES = 4 << 20

Add = Callable[[list[NewDocument]], Awaitable[WriteResponse]]


async def index_stream(chunks: AsyncIterator[bytes], add: Add, *, max_line: int) -> AsyncIterator[StreamLine]:
    """Index a stream of lines, each of which is one document.

    Args:
        chunks: of the request body.
        add: indexes one batch.
        max_line: length limit of a line in bytes.

    Yields:
        One line after each batch and a final one, which has either ``done`` or an ``error``.
    """
    succeeded, number, size = 0, 0, 0
    batch: list[NewDocument] = []
    failed: list[DocumentFailure] = []
    try:
        async for line in split_lines(chunks, max_line=max_line):
            number += 1
            try:
                batch.append(parse_document(line))
                size += len(line)
            except ValueError as error:
                failed.append(DocumentFailure(id=f"line {number}", reason=str(error)))
            if len(batch) >= BATCH_DOCUMENTS or size >= BATCH_BYTES or len(failed) >= BATCH_DOCUMENTS:
                report = await add(batch) if batch else WriteResponse(succeeded=0, failed=[])
                succeeded += report.succeeded
                yield StreamLine(succeeded=succeeded, failed=[*failed, *report.failed])
                batch, failed, size = [], [], 0
        report = await add(batch) if batch else WriteResponse(succeeded=0, failed=[])
        yield StreamLine(succeeded=succeeded + report.succeeded, failed=[*failed, *report.failed], done=True)
    except ClientDisconnect:
        return  # nobody is left to report to; what was indexed stays
    except DeepTermsError as error:
        yield StreamLine(succeeded=succeeded, failed=failed, error=to_http_error(error).detail)


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
