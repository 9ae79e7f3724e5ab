"""A client, to be killed, that adds documents with a checkpoint and reports the acknowledged ones after each piece."""

from __future__ import annotations

from multiprocessing.connection import Connection

import deepterms as dt
from deepterms.index import ingest
from tests.clusters.trio import KINDS
from tests.faults.workload import MOVING, Documents

__all__ = ["DOCUMENTS_PER_PIECE", "add_until_killed"]

DOCUMENTS_PER_PIECE = 20


def add_until_killed(told: Connection, *, engine: str, urls: list[str], name: str, checkpoint: str, seed: int) -> None:
    """Add the documents that no earlier call had acknowledged; runs in a separate process."""
    index = dt.SurrogateIndex.open(KINDS[engine].client(urls), name)
    documents = Documents("m", MOVING, seed=seed)
    ingest.DOCUMENTS_PER_BULK = DOCUMENTS_PER_PIECE
    batches = [(documents.ids, documents.rows, None)]
    index.add_batches(batches, checkpoint=checkpoint, on_progress=told.send)
