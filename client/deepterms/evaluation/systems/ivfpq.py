"""Score documents with FAISS IVFPQ: product-quantized residuals in cells, of which a query probes a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.ranking import NOT_FOUND
from deepterms.optional import faiss

__all__ = ["IVFPQ", "ROWS_PER_CENTROID", "choose_cells", "choose_code_bytes"]

ROWS_PER_CENTROID = 39  # below this, FAISS warns that k-means has too little training data
CENTROIDS = 256  # per subquantizer, so that each code takes one byte
MIN_DIMENSIONS_PER_BYTE = 10  # of a code


def choose_cells(documents: int, *, training_rows: int) -> int:
    """Choose the power of two nearest to √N, limited by the rows available for training.

    Args:
        documents: N.
        training_rows: number of descriptors that the codebooks are trained on.
    """
    wanted = 2 ** round(np.log2(max(1, documents) ** 0.5))
    most = 2 ** int(np.log2(max(1.0, training_rows / ROWS_PER_CENTROID)))
    return int(min(wanted, most))


def choose_code_bytes(dimensions: int) -> int:
    """Choose the largest divisor of D with at least ten dimensions per byte: 128 bytes at D = 1,280 and 2,048."""
    most = max(1, dimensions // MIN_DIMENSIONS_PER_BYTE)
    return max(part for part in range(1, most + 1) if dimensions % part == 0)


class IVFPQ:
    """IVFPQ whose codebooks are trained once; documents are only encoded.

    The score of a document is the inner product of the query with the document reconstructed from its code, which is
    what FAISS's search computes from lookup tables. It depends on no other document, so ranking quality can be measured
    without keeping the codes.

    Args:
        training: float32 (n, D), from the collection or elsewhere; rows L2-normalised.
        cells: number of cells.
        code_bytes: code length per document in bytes; must divide D.
        probes: numbers of cells that a query reads, one setting each.
        name: for display.

    Raises:
        InvalidInput: there are too few training rows, or `code_bytes` does not divide D.
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
                f"{rows} rows cannot train {cells} cells and {CENTROIDS} centroids per subquantizer; "
                f"expected at least {max(cells, CENTROIDS)} rows; add distractors or leave IVFPQ out"
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
        # FAISS would print its warning straight to stderr; the results record the number of training rows anyway.
        self.index.cp.min_points_per_centroid = self.index.pq.cp.min_points_per_centroid = 1
        self.index.train(np.ascontiguousarray(training))

    def start(self, queries: NDArray[np.float32]) -> None:
        """See `ScoringSystem.start`."""
        self._queries = queries
        _, order = self._coarse.search(queries, self.cells)  # (Q, cells), best first
        self._places = np.empty_like(order)
        np.put_along_axis(self._places, order, np.broadcast_to(np.arange(self.cells), order.shape), axis=1)

    def score(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score`."""
        _, cells = self._coarse.search(block, 1)
        reconstructed = self.index.sa_decode(self.index.sa_encode(block))  # (n, D)
        scores = self._queries @ reconstructed.T  # (Q, n)
        places = self._places[:, cells[:, 0]]  # (Q, n): position of the document's cell in the query's probing order
        return [np.where(places < probe, scores, NOT_FOUND) for probe in self.probes]

    def score_and_count(self, block: NDArray[np.float32]) -> Sequence[NDArray[np.floating]]:
        """See `ScoringSystem.score_and_count`."""
        return self.score(block)

    def measure_selectivity(self) -> None:
        """Return None: it reads one code per scored document; the cells' centroids are not counted."""

    def estimate_bytes(self, documents: int) -> int:
        """Return the size of the codes and codebooks."""
        return documents * self.code_bytes + 4 * int(self.index.d) * (self.cells + CENTROIDS)
