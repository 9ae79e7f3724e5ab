"""Ingest: documents into an index in bulk requests, some under way at once, whatever becomes of its name meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from deepterms.cluster.backpressure import DOCUMENTS_PER_BULK
from deepterms.cluster.cluster import Cluster
from deepterms.encoders.encoder import Encoder
from deepterms.errors import ClusterError, InvalidInput
from deepterms.index.checkpoint import Checkpoint, piece_hash
from deepterms.results import Failure, Revision, WriteReport
from deepterms.schema.documents import Batch, BulkLine, bulk_lines, check_batch
from deepterms.schema.vectors import VectorType
from deepterms.storage.concrete_index import index_path
from deepterms.telemetry import span
from deepterms.terms import TermFrequencies

__all__ = ["DEFAULT_THREADS", "DOCUMENTS_PER_BULK", "DocumentBatch", "Ingest", "Target"]

DEFAULT_THREADS = 2

DocumentBatch = tuple[Sequence[str], ArrayLike | TermFrequencies, Sequence[Mapping[str, Any]] | None]


class Target(Protocol):
    """The index that documents go to; for the attributes see `SurrogateIndex`."""

    cluster: Cluster
    name: str
    encoder: Encoder
    vector_type: VectorType | None
    concrete: frozenset[str]

    def reopen(self) -> bool:
        """Go by what the index says of itself now."""


class Ingest:
    """One stream of writes.

    Args:
        target: the index; if its name is found to point elsewhere by now, it is reopened.
    """

    def __init__(self, target: Target) -> None:
        self.target = target

    def add_batches(
        self,
        batches: Iterable[DocumentBatch],
        *,
        threads: int = DEFAULT_THREADS,
        on_progress: Callable[[int], None] | None = None,
        revisions: Sequence[Revision | None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> WriteReport:
        """As `SurrogateIndex.add_batches`; revisions are those of the only batch."""
        report = WriteReport(0)
        waiting: deque[tuple[str, Future[WriteReport]]] = deque()
        with (
            span("deepterms.add", index=self.target.name) as spanned,
            ThreadPoolExecutor(threads, thread_name_prefix="deepterms-bulk") as pool,
            nullcontext() if checkpoint is None else Checkpoint(checkpoint, owner=self.owner()) as noted,
        ):

            def collect() -> WriteReport:
                piece, sent = waiting.popleft()
                finished = sent.result()
                if noted is not None and not finished.failed:
                    noted.record(piece, documents=finished.succeeded)
                if on_progress is not None:
                    on_progress(finished.succeeded + len(finished.failed))
                return finished

            for batch, encoder in self._pieces(batches, revisions):
                if batch.failed:
                    report += WriteReport(0, batch.failed)
                if not batch.ids:
                    continue
                piece = "" if noted is None else piece_hash(batch)
                if noted is not None and noted.holds(piece):
                    report += WriteReport(len(batch.ids), skipped=len(batch.ids))
                    if on_progress is not None:
                        on_progress(len(batch.ids))
                    continue
                lines = self._lines(batch, encoder)
                waiting.append((piece, pool.submit(self._index, batch, encoder, lines)))
                # Encoding runs ahead of the requests by one piece a thread, no further.
                while len(waiting) > 2 * threads:
                    report += collect()
            while waiting:
                report += collect()
            spanned.note(documents=report.succeeded, failed=len(report.failed))
        return report

    def delete(self, ids: Sequence[str]) -> WriteReport:
        """As `SurrogateIndex.delete`."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
        report = WriteReport(0)
        remaining = iter(ids)
        while chunk := list(islice(remaining, DOCUMENTS_PER_BULK)):
            report += self.send([({"delete": {"_id": identifier}}, None) for identifier in chunk])
        return report

    def owner(self) -> dict[str, Any]:
        """What a checkpoint belongs to; an index that is dropped and made again has another uuid."""
        settings = self.target.cluster.request("GET", f"{index_path(self.target.name)}/_settings")
        return {
            "index": self.target.name,
            "concrete": {name: answer["settings"]["index"]["uuid"] for name, answer in sorted(settings.items())},
            "encoder": self.target.encoder.spec(),
            "vectors": self.target.vector_type,
        }

    def _pieces(
        self, batches: Iterable[DocumentBatch], revisions: Sequence[Revision | None] | None
    ) -> Iterator[tuple[Batch, Encoder]]:
        """A piece of each batch at a time, checked, with the encoder that it was checked for."""
        for ids, content, metadata in batches:
            seen: set[str] = set()
            rows = content if isinstance(content, TermFrequencies) else np.atleast_2d(np.asanyarray(content))
            for start in range(0, len(ids), DOCUMENTS_PER_BULK):
                piece = slice(start, start + DOCUMENTS_PER_BULK)
                encoder = self.target.encoder
                batch = check_batch(
                    ids[piece],
                    rows[piece],
                    metadata[piece] if metadata is not None else None,
                    encoder=encoder,
                    seen=seen,
                    revisions=revisions[piece] if revisions is not None else None,
                )
                yield batch, encoder

    def _lines(self, batch: Batch, encoder: Encoder) -> list[BulkLine]:
        return bulk_lines(batch, batch.terms(encoder), store_vectors=self.target.vector_type)

    def _index(self, batch: Batch, encoder: Encoder, lines: list[BulkLine]) -> WriteReport:
        """Send a batch; again if it turns out to have been encoded for an index that the name no longer points to."""
        took: set[str] = set()
        report = self.send(lines, took)
        if not took <= self.target.concrete:
            self.target.reopen()
        if self.target.encoder.spec() != encoder.spec():
            if isinstance(batch.content, TermFrequencies):
                return self._withdraw(batch)
            report = self.send(self._lines(batch, self.target.encoder))
        return report

    def _withdraw(self, batch: Batch) -> WriteReport:
        """Delete documents that came as terms of another encoder than the index turned out to have."""
        self.delete(batch.ids)
        why = (
            f"the index moved to {self.target.encoder} meanwhile, and terms of another encoder would never be found; "
            "make them anew with index.encoder"
        )
        return WriteReport(0, tuple(Failure(identifier, why) for identifier in batch.ids))

    def send(self, lines: list[BulkLine], took: set[str] | None = None) -> WriteReport:
        """Send lines; each document of a request that failed as a whole is named, and nothing is raised."""
        try:
            outcomes = list(self.target.cluster.bulk(lines, index=self.target.name, took=took))
        except ClusterError as error:
            outcomes = [(next(iter(action.values()))["_id"], str(error)) for action, _ in lines]
        failed = tuple(Failure(identifier, _explained(why)) for identifier, why in outcomes if why)
        return WriteReport(len(outcomes) - len(failed), failed)


def _explained(why: str) -> str:
    if why.startswith("version_conflict"):
        return f"the document was changed meanwhile; read it again and decide anew ({why})"
    return why
