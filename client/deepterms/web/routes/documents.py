"""Writes: the routes that add and delete documents, one by one, together, or in a stream of any length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from deepterms.web.access import Access
from deepterms.web.errors import Problem
from deepterms.web.limits import Limits
from deepterms.web.metrics import Metrics
from deepterms.web.routing import json_only, media_type_of, problems
from deepterms.web.schemas import (
    AddAnswer,
    AddRequest,
    DeleteRequest,
    FailureAnswer,
    NewDocument,
    StreamLine,
    array_of,
)
from deepterms.web.stream import NDJSON, StreamAnswer, stream_answer
from deepterms.web.thread_pool import Pool

__all__ = ["Writes"]

_LINES = {
    "requestBody": {
        "required": True,
        "description": "A document a line.",
        "content": {NDJSON: {"schema": NewDocument.model_json_schema()}},
    }
}


class Writes:
    """Documents in and out of one index; see `create_app` for the arguments."""

    def __init__(self, index: Any, *, pool: Pool, access: Access, limits: Limits, metrics: Metrics) -> None:
        self._index = index
        self._pool = pool
        self._access = access
        self._limits = limits
        self._metrics = metrics

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        post, json = router.post, [Depends(json_only)]
        router.delete("/v1/document", summary="Delete one document", responses=problems())(self.delete_document)
        post("/v1/documents", summary="Add documents", responses=problems(415), dependencies=json)(self.add)
        post(
            "/v1/documents/stream",
            summary="Add documents, one a line",
            responses={**problems(415), 200: {"content": {NDJSON: {"schema": StreamLine.model_json_schema()}}}},
            openapi_extra=_LINES,
            response_class=Response,
        )(self.add_stream)
        post("/v1/documents/delete", summary="Delete documents", responses=problems(415), dependencies=json)(
            self.delete
        )

    async def add(self, asked: AddRequest) -> AddAnswer:
        """A document whose id is there already is replaced as a whole. One that cannot be indexed stops no other."""
        return await self._add(list(asked.documents), refresh=asked.refresh)

    async def add_stream(self, request: Request) -> Response:
        """For any number of documents: batches are succeeded, and answered, while the rest is still being sent.

        The last line says `done`; without it the stream was cut, and it can be sent again.
        """
        if media_type_of(request) not in {NDJSON, "application/ndjson", "application/jsonl"}:
            raise Problem(415, f"send one JSON document a line, with Content-Type: {NDJSON}")
        self._check_writable()
        return StreamAnswer(stream_answer(request.stream(), self._add, longest=self._limits.line_bytes))

    async def delete(self, asked: DeleteRequest) -> AddAnswer:
        """One that is not there counts as deleted."""
        return await self._delete(asked.ids, refresh=asked.refresh)

    async def delete_document(
        self, id: Annotated[str, Query(min_length=1, max_length=512)], refresh: bool = False
    ) -> AddAnswer:
        """One that is not there counts as deleted."""
        return await self._delete([id], refresh=refresh)

    def _check_writable(self) -> None:
        if self._access.read_only:
            raise Problem(403, "this server was started with --read-only")

    async def _add(self, documents: list[NewDocument], *, refresh: bool = False) -> AddAnswer:
        self._check_writable()
        usable, vectors, failed = [], [], []
        for document in documents:
            try:
                vectors.append(array_of(document.vector, dimensions=self._index.encoder.dimensions))
                usable.append(document)
            except Problem as problem:
                failed.append(FailureAnswer(id=document.id, reason=problem.detail))

        def add() -> AddAnswer:
            if not usable:
                return AddAnswer(succeeded=0, failed=failed)
            report = self._index.add(
                [one.id for one in usable], np.stack(vectors), [dict(one.metadata) for one in usable]
            )
            if refresh:
                self._index.refresh()
            refused = [FailureAnswer(id=failure.id, reason=failure.reason) for failure in report.failed]
            return AddAnswer(succeeded=report.succeeded, failed=[*failed, *refused])

        answer = await self._pool.run(add)
        self._metrics.documents(succeeded=answer.succeeded, failed=len(answer.failed))
        return answer

    async def _delete(self, ids: Iterable[str], *, refresh: bool) -> AddAnswer:
        self._check_writable()

        def delete() -> AddAnswer:
            report = self._index.delete(list(ids))
            if refresh:
                self._index.refresh()
            failed = [FailureAnswer(id=failure.id, reason=failure.reason) for failure in report.failed]
            return AddAnswer(succeeded=report.succeeded, failed=failed)

        return await self._pool.run(delete)
