"""A client that adds documents with a checkpoint, and says after each piece how many are acknowledged; to be killed.

python -m tests.faults.killed_client ENGINE URLS INDEX CHECKPOINT SEED
"""

from __future__ import annotations

import sys

import deepterms as dt
from deepterms import ingest
from tests.clusters.trio import KINDS
from tests.faults.workload import MOVING, Documents

__all__ = ["DOCUMENTS_A_PIECE"]

DOCUMENTS_A_PIECE = 20


def main(engine: str, urls: str, name: str, checkpoint: str, seed: str) -> None:
    """Adds what no earlier call had acknowledged."""
    index = dt.SurrogateIndex.open(KINDS[engine].client(urls.split(",")), name)
    documents = Documents("m", MOVING, seed=int(seed))
    ingest.DOCUMENTS_PER_BULK = DOCUMENTS_A_PIECE
    batches = [(documents.ids, documents.rows, None)]
    index.add_batches(batches, checkpoint=checkpoint, on_progress=lambda count: print(count, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
