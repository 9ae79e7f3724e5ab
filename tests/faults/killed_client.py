"""A client that adds documents with a checkpoint, and says after each piece how many are acknowledged; to be killed."""

from __future__ import annotations

from multiprocessing.connection import Connection

import deepterms as dt
from deepterms.index import ingest
from tests.clusters.trio import KINDS
from tests.faults.workload import MOVING, Documents

__all__ = ["DOCUMENTS_PER_PIECE", "add_until_killed"]

DOCUMENTS_PER_PIECE = 20


def add_until_killed(told: Connection, *, engine: str, urls: list[str], name: str, checkpoint: str, seed: int) -> None:
    """Adds what no earlier call had acknowledged, to be called in a process of its own."""
    index = dt.SurrogateIndex.open(KINDS[engine].client(urls), name)
    documents = Documents("m", MOVING, seed=seed)
    ingest.DOCUMENTS_PER_BULK = DOCUMENTS_PER_PIECE
    batches = [(documents.ids, documents.rows, None)]
    index.add_batches(batches, checkpoint=checkpoint, on_progress=told.send)
