"""FAISS in this process's memory, as contenders: HNSW, IVFFlat and IVFPQ over the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.contenders import Features, Options, Stored

faiss: Any = import_module("faiss")  # its types do not know all of it

NEIGHBOURS = 16
BUILD_BREADTH = 100
ROWS = 65_536  # added at once
TRAINING_ROWS = 40  # for each centroid
CODE_BYTES = 128  # of a row, product-quantised


@dataclass
class FaissIndex:
    """Filled once; rows cannot be filtered, and what is deleted is gone from the answers only."""

    name: str
    settings: Mapping[str, Options]
    kind: str
    index: Any = field(default=None, repr=False)

    def build(self, features: Stored) -> None:
        """Train on a sample, if it learns, and add every row."""
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
        """In memory, as its serialised form has them."""
        written = faiss.VectorIOWriter()
        faiss.write_index(self.index, written)
        return int(written.data.size())

    def ask(self, query: Features, options: Options, *, k: int, below: int | None = None) -> list[tuple[int, float]]:
        """One search; the score is the cosine."""
        parameters = (
            faiss.SearchParametersHNSW(efSearch=int(options["ef"]))
            if self.kind == "hnsw"
            else faiss.SearchParametersIVF(nprobe=int(options["probes"]))
        )
        scores, rows = self.index.search(query[np.newaxis], k, params=parameters)
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]

    def create(self) -> None:
        """Nothing to do before `fill`."""

    def fill(self, features: Stored, draws: NDArray[np.int64], rows: Sequence[int] | range | None = None) -> None:
        """All rows; it has no updates."""
        self.build(features)

    def merge(self) -> None:
        """It is whole."""

    def refresh(self) -> None:
        """It is visible."""

    def delete(self, rows: Sequence[int]) -> None:
        """Left out: a graph cannot."""
        raise NotImplementedError("rows of a FAISS graph cannot be deleted")

    def drop(self) -> None:
        """Frees the memory."""
        self.index = None


def faiss_indices() -> list[FaissIndex]:
    """The three, empty."""
    probes = {f"{n} probes": {"probes": n} for n in (1, 4, 16, 64, 128)}
    return [
        FaissIndex("faiss HNSW", {f"ef {ef}": {"ef": ef} for ef in (16, 50, 100, 400, 1_000, 3_000)}, "hnsw"),
        FaissIndex("faiss IVFFlat", probes, "ivfflat"),
        FaissIndex("faiss IVFPQ", probes, "ivfpq"),
    ]
