"""FAISS indices in this process's memory as contenders: HNSW, IVFFlat and IVFPQ over the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.contenders import Features, Options, Stored

faiss: Any = import_module("faiss")  # as Any: its type stubs are incomplete

NEIGHBOURS = 16
BUILD_BREADTH = 100
ROWS = 65_536  # per call of add
TRAINING_ROWS = 40  # per centroid
CODE_BYTES = 128  # per product-quantized row


@dataclass
class FaissIndex:
    """A FAISS index that is filled once; it supports neither filters nor updates nor deletes."""

    name: str
    settings: Mapping[str, Options]
    kind: str
    index: Any = field(default=None, repr=False)

    def build(self, features: Stored) -> None:
        """Train on a sample, if the index needs training, and add every row."""
        N, D = features.shape
        lists = 2 ** round(np.log2(4 * N**0.5))
        inner = faiss.METRIC_INNER_PRODUCT
        if self.kind == "hnsw":
            self.index = faiss.IndexHNSWFlat(D, NEIGHBOURS, inner)
            self.index.hnsw.efConstruction = BUILD_BREADTH
        else:
            coarse = faiss.IndexFlatIP(D)
            self.index = (
                faiss.IndexIVFFlat(coarse, D, lists, inner)
                if self.kind == "ivfflat"
                else faiss.IndexIVFPQ(coarse, D, lists, CODE_BYTES, 8, inner)
            )
            rows = np.random.default_rng(0).choice(N, min(N, TRAINING_ROWS * lists), replace=False)
            self.index.train(np.asarray(features[np.sort(rows)], dtype=np.float32))
        for start in range(0, N, ROWS):
            self.index.add(np.ascontiguousarray(features[start : start + ROWS], dtype=np.float32))

    def stored_bytes(self) -> int:
        """Return the size of the serialised index."""
        written = faiss.VectorIOWriter()
        faiss.write_index(self.index, written)
        return int(written.data.size())

    def search(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """Run one search; the score is the cosine."""
        parameters = (
            faiss.SearchParametersHNSW(efSearch=int(options["ef"]))
            if self.kind == "hnsw"
            else faiss.SearchParametersIVF(nprobe=int(options["probes"]))
        )
        scores, rows = self.index.search(query[np.newaxis], k, params=parameters)
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]

    def create(self) -> None:
        """Do nothing; `fill` creates the index."""

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """Add all rows; updates are not supported."""
        self.build(features)

    def merge(self) -> None:
        """Do nothing; there is only one segment."""

    def refresh(self) -> None:
        """Do nothing; rows are visible at once."""

    def delete(self, rows: Sequence[int]) -> None:
        """Raise NotImplementedError: HNSW cannot delete rows."""
        raise NotImplementedError("rows of a FAISS graph cannot be deleted")

    def drop(self) -> None:
        """Free the memory."""
        self.index = None


def create_faiss_indices() -> list[FaissIndex]:
    """Create the three indices, empty."""
    probes = {f"{n} probes": {"probes": n} for n in (1, 4, 16, 64, 128)}
    return [
        FaissIndex("faiss HNSW", {f"ef {ef}": {"ef": ef} for ef in (16, 50, 100, 400, 1_000, 3_000)}, "hnsw"),
        FaissIndex("faiss IVFFlat", probes, "ivfflat"),
        FaissIndex("faiss IVFPQ", probes, "ivfpq"),
    ]
