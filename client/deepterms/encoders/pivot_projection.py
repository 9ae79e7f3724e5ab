"""A projection of pivots: candidates for a descriptor's nearest pivots, by comparing all of them in few dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivot_graph import faiss, one_thread
from deepterms.encoders.pivot_grid import GridFeatures, PivotGrid
from deepterms.encoders.principal_components import PrincipalComponents
from deepterms.errors import MissingExtra

__all__ = ["PivotProjection"]

# Of 8,192 pivots in 1,280 dimensions these find .99 of a mixture's nearest 32 and .999 of its nearest 8; of 32,768,
# .97 and .998 (benchmarks/pivot_assignment.py).
COMPONENTS = 384
CANDIDATES_A_PIVOT = 2
LEAST_CANDIDATES = 64


class PivotProjection:
    """All pivots compared in their principal components.

    Many descriptors are compared by a matrix product. One alone is compared in bytes, by faiss, which takes less than
    half the time; where it is not installed, in float32.

    Args:
        grid: the pivots.
    """

    def __init__(self, grid: PivotGrid) -> None:
        self._components = PrincipalComponents(grid, COMPONENTS)
        pivots = self._components.pivots
        # p·q − ‖p‖²/2 orders as the distance does, and p·q as the cosine does.
        self._halves = None if grid.cosine else np.einsum("pd,pd->p", pivots, pivots) / 2
        try:
            with one_thread():
                self._bytes = _in_bytes(pivots, cosine=grid.cosine)
        except MissingExtra:
            self._bytes = None

    def candidates(self, features: GridFeatures, count: int) -> NDArray[np.int64]:
        """Among which pivots to look for the nearest.

        Args:
            features: N descriptors.
            count: how many are wanted of each.

        Returns:
            Numbers of pivots, int64 (N, C), ascending.
        """
        projected, pivots = self._components.of(features), self._components.pivots
        most = min(max(LEAST_CANDIDATES, CANDIDATES_A_PIVOT * count), len(pivots))
        if len(projected) == 1 and self._bytes is not None:
            with one_thread():
                _, found = self._bytes.search(projected, most)
            alone: NDArray[np.int64] = np.sort(found, axis=1)
            return alone
        # One alone not by BLAS: on a busy machine its threads wait for each other, 20 ms instead of 0.2.
        look = np.einsum("nd,pd->np", projected, pivots) if len(projected) == 1 else projected @ pivots.T  # (N, P)
        if self._halves is not None:
            look -= self._halves
        numbers: NDArray[np.int64] = np.sort(
            np.argpartition(look, len(pivots) - most, axis=1)[:, len(pivots) - most :], axis=1
        )
        return numbers


def _in_bytes(pivots: NDArray[np.float32], *, cosine: bool) -> Any:
    module = faiss()
    metric = module.METRIC_INNER_PRODUCT if cosine else module.METRIC_L2
    index = module.IndexScalarQuantizer(pivots.shape[1], module.ScalarQuantizer.QT_8bit_uniform, metric)
    index.train(pivots)
    index.add(pivots)
    return index
