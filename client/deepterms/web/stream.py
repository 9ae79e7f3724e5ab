"""A stream of documents: read, indexed and answered batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deepterms.errors import DeepTermsError
from deepterms.web.errors import problem_of
from deepterms.web.schemas import AddAnswer, FailureAnswer, NewDocument, StreamLine
from deepterms.web.uploads import lines_of, new_document

__all__ = ["NDJSON", "StreamAnswer", "stream_answer"]

NDJSON = "application/x-ndjson"
BATCH_DOCUMENTS = 500
BATCH_BYTES = 4 << 20

Add = Callable[[list[NewDocument]], Awaitable[AddAnswer]]


async def stream_answer(chunks: AsyncIterator[bytes], add: Add, *, longest: int) -> AsyncIterator[StreamLine]:
    """Index a stream of lines.

    Args:
        chunks: of the request's body.
        add: indexes a batch.
        longest: bytes of a line.

    Yields:
        a line after each batch, and a last one, which says `done` or has an `error`.
    """
    succeeded, number, size = 0, 0, 0
    batch: list[NewDocument] = []
    failed: list[FailureAnswer] = []
    try:
        async for line in lines_of(chunks, longest=longest):
            number += 1
            try:
                batch.append(new_document(line))
                size += len(line)
            except ValueError as error:
                failed.append(FailureAnswer(id=f"line {number}", reason=str(error)))
            if len(batch) >= BATCH_DOCUMENTS or size >= BATCH_BYTES or len(failed) >= BATCH_DOCUMENTS:
                report = await add(batch) if batch else AddAnswer(succeeded=0, failed=[])
                succeeded += report.succeeded
                yield StreamLine(succeeded=succeeded, failed=[*failed, *report.failed])
                batch, failed, size = [], [], 0
        report = await add(batch) if batch else AddAnswer(succeeded=0, failed=[])
        yield StreamLine(succeeded=succeeded + report.succeeded, failed=[*failed, *report.failed], done=True)
    except ClientDisconnect:
        return  # nobody is left to tell; what was indexed stays
    except DeepTermsError as error:
        yield StreamLine(succeeded=succeeded, failed=failed, error=problem_of(error).detail)


class StreamAnswer(Response):
    """An answer of lines that are sent while the request is still being read.

    Starlette's own streaming response listens for the client's end meanwhile, and would swallow the request's body.
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
