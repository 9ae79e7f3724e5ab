"""IVFPQ of FAISS: product-quantised residuals in cells, of which a query probes a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.ranking import NOT_FOUND
from deepterms.optional import faiss

__all__ = ["IVFPQ", "ROWS_PER_CENTROID", "default_cells", "default_code_bytes"]

ROWS_PER_CENTROID = 39  # below this FAISS warns that k-means has too little to learn from
CENTROIDS = 256  # of each part of a code: one byte
CODE_SHARE = 10  # dimensions that one byte of a code stands for, at least


def default_cells(documents: int, *, training_rows: int) -> int:
    """The power of two nearest to √N, as far as there are rows to train them.

    Args:
        documents: N.
        training_rows: from which codebooks are learned.
    """
    wanted = 2 ** round(np.log2(max(1, documents) ** 0.5))
    most = 2 ** int(np.log2(max(1.0, training_rows / ROWS_PER_CENTROID)))
    return int(min(wanted, most))


def default_code_bytes(dimensions: int) -> int:
    """The largest divisor of D that leaves ten dimensions a byte: 128 bytes at D = 1,280 and 2,048."""
    most = max(1, dimensions // CODE_SHARE)
    return max(part for part in range(1, most + 1) if dimensions % part == 0)


class IVFPQ:
    """Codebooks that are learned once; documents are only encoded by them.

    The score of a document is the inner product of the query with what its code stands for, as FAISS's own search
    computes it from tables. It depends on no other document, so codes need not be kept to measure how well it ranks.

    Args:
        training: float32 (n, D), from the collection or from elsewhere; rows L2-normalised.
        cells: how many.
        code_bytes: of a document; must divide D.
        probes: how many cells a query reads: one setting each.
        name: what to call it.

    Raises:
        InvalidInput: too few rows to train, or the code does not divide D.
        MissingExtra: FAISS is not installed.
    """

    def __init__(
        self,
        training: NDArray[np.float32],
        *,
        cells: int,
        code_bytes: int,
        probes: Sequence[int],
        name: str = "IVFPQ",
    ) -> None:
        rows, D = training.shape
        if rows < max(cells, CENTROIDS):
            raise InvalidInput(
                f"{rows} rows cannot train {cells} cells and {CENTROIDS} centroids of codes; "
                f"expected at least {max(cells, CENTROIDS)} rows; add distractors, or leave IVFPQ out"
            )
        if D % code_bytes:
            raise InvalidInput(f"code_bytes is {code_bytes}; expected a divisor of the {D} dimensions")
        library = faiss("evaluate")
        self.name = name
        self.probes = tuple(sorted({min(probe, cells) for probe in probes}))
        self.settings = tuple(f"{probe} of {cells} cells" for probe in self.probes)
        self.cells, self.code_bytes = cells, code_bytes
        self._coarse: Any = library.IndexFlatIP(D)
        self.index: Any = library.IndexIVFPQ(self._coarse, D, cells, code_bytes, 8, library.METRIC_INNER_PRODUCT)
        # Its warning would go to stderr past every handler; how many rows there were is in the results.
        self.index.cp.min_points_per_centroid = self.index.pq.cp.min_points_per_centroid = 1
        self.index.train(np.ascontiguousarray(training))

    def start(self, queries: NDArray[np.float32]) -> None:
        """As of every system."""
        self._queries = queries
        _, order = self._coarse.search(queries, self.cells)  # (Q, cells), best first
        self._places = np.empty_like(order)
        np.put_along_axis(self._places, order, np.broadcast_to(np.arange(self.cells), order.shape), axis=1)

    def scores(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        _, cells = self._coarse.search(block, 1)
        stood_for = self.index.sa_decode(self.index.sa_encode(block))  # (n, D)
        scores = self._queries @ stood_for.T  # (Q, n)
        places = self._places[:, cells[:, 0]]  # (Q, n): how late a query would come to a document's cell
        return [np.where(places < probe, scores, NOT_FOUND) for probe in self.probes]

    def read(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """As of every system."""
        return self.scores(block)

    def selectivity(self) -> None:
        """It reads a code for each document that it scores; the cells' centroids are not counted."""

    def stored_bytes(self, documents: int) -> int:
        """Of the codes and the codebooks."""
        return documents * self.code_bytes + 4 * int(self.index.d) * (self.cells + CENTROIDS)
