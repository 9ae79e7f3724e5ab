"""Ingest: documents into an index in bulk requests, some under way at once, whatever becomes of its name meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from deepterms.backpressure import DOCUMENTS_PER_BULK
from deepterms.documents import Batch, BulkLine, bulk_lines, check_batch
from deepterms.encoders.encoder import Encoder
from deepterms.engines import Cluster
from deepterms.errors import ClusterError, InvalidInput
from deepterms.results import Failure, IndexReport

__all__ = ["DEFAULT_THREADS", "DOCUMENTS_PER_BULK", "DocumentBatch", "Ingest", "Target"]

DEFAULT_THREADS = 2

DocumentBatch = tuple[Sequence[str], ArrayLike, Sequence[Mapping[str, Any]] | None]


class Target(Protocol):
    """The index that documents go to; for the attributes see `SurrogateIndex`."""

    cluster: Cluster
    name: str
    encoder: Encoder
    stores_vectors: bool
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
    ) -> IndexReport:
        """As `SurrogateIndex.add_batches`."""
        report = IndexReport(0)
        waiting: deque[Future[IndexReport]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="deepterms-bulk") as pool:

            def collect() -> IndexReport:
                finished = waiting.popleft().result()
                if on_progress is not None:
                    on_progress(finished.indexed + len(finished.failed))
                return finished

            for batch, encoder, lines in self._prepared(batches):
                if batch.failed:
                    report += IndexReport(0, batch.failed)
                if lines:
                    waiting.append(pool.submit(self._index, batch, encoder, lines))
                # Encoding runs ahead of the requests by one piece a thread, no further.
                while len(waiting) > 2 * threads:
                    report += collect()
            while waiting:
                report += collect()
        return report

    def delete(self, ids: Sequence[str]) -> IndexReport:
        """As `SurrogateIndex.delete`."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is one text, {ids!r}; expected a sequence of ids")
        report = IndexReport(0)
        remaining = iter(ids)
        while chunk := list(islice(remaining, DOCUMENTS_PER_BULK)):
            report += self._send([({"delete": {"_id": identifier}}, None) for identifier in chunk])
        return report

    def _prepared(self, batches: Iterable[DocumentBatch]) -> Iterator[tuple[Batch, Encoder, list[BulkLine]]]:
        """A piece of each batch at a time, with the lines of its bulk request and the encoder that made them."""
        for ids, features, metadata in batches:
            seen: set[str] = set()
            array = features if isinstance(features, np.ndarray) else np.asarray(features)
            for start in range(0, len(ids), DOCUMENTS_PER_BULK):
                piece = slice(start, start + DOCUMENTS_PER_BULK)
                batch = check_batch(
                    ids[piece],
                    np.atleast_2d(array)[piece],
                    metadata[piece] if metadata is not None else None,
                    dimensions=self.target.encoder.dimensions,
                    seen=seen,
                )
                encoder = self.target.encoder
                yield batch, encoder, self._lines(batch, encoder)

    def _lines(self, batch: Batch, encoder: Encoder) -> list[BulkLine]:
        return bulk_lines(batch, encoder.encode(batch.features), store_vectors=self.target.stores_vectors)

    def _index(self, batch: Batch, encoder: Encoder, lines: list[BulkLine]) -> IndexReport:
        """Send a batch; again if it turns out to have been encoded for an index that the name no longer points to."""
        took: set[str] = set()
        report = self._send(lines, took)
        if not took <= self.target.concrete:
            self.target.reopen()
        if self.target.encoder.spec() != encoder.spec():
            report = self._send(self._lines(batch, self.target.encoder))
        return report

    def _send(self, lines: list[BulkLine], took: set[str] | None = None) -> IndexReport:
        try:
            outcomes = list(self.target.cluster.bulk(lines, index=self.target.name, took=took))
        except ClusterError as error:  # each document of a request that failed as a whole is named; the rest goes on
            outcomes = [(next(iter(action.values()))["_id"], str(error)) for action, _ in lines]
        failed = tuple(Failure(identifier, why) for identifier, why in outcomes if why)
        return IndexReport(len(outcomes) - len(failed), failed)
