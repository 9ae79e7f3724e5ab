"""A projection of pivots: candidates for a descriptor's nearest pivots, by comparing all of them in few dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid
from deepterms.encoders.pivots.products import multiply_candidates
from deepterms.errors import MissingExtra
from deepterms.optional import faiss, one_thread

__all__ = ["PivotProjection"]

# As measured in benchmarks/pivot_assignment.py: fewer components or candidates miss more, and more cost more time.
# With 4 candidates a pivot .987 of a query's 16 nearest of 32,768 were found, with 8 .994, and R@10 of 2,000,000
# mixtures rose by .005.
COMPONENTS = 384
CANDIDATES_PER_PIVOT = 8
MIN_CANDIDATES = 96
# From so many pivots the centroids of their codes are learnt, each from so many of them and in so many iterations: as
# many of the nearest are among the candidates as with faiss's 256 and 25, and the first search waits a third as long.
TRAINING_PIVOTS = 16_384
TRAINED_BY = 128
ITERATIONS = 10


# Rows from which the components are found.
PRINCIPAL_ROWS = 8_192


class PrincipalComponents:
    """Pivots and descriptors in the directions in which pivots vary most; as they are where they have not so many.

    The first component is the strongest and the second the weakest, the third the strongest but one, and so on: so each
    two vary about as much as any other two, which is best for codes of two components each (Ge, He, Ke and Sun,
    "Optimized Product Quantization", CVPR 2013).

    On another kind of processor, or with another numpy, components may be rounded otherwise, and a few candidates
    differ.

    Args:
        grid: the pivots.
        most: components at most.

    Attributes:
        axes: float32 (d, D), of length 1.
        pivots: float32 (P, d), of vectors of length 1 (cosine) or of length at most 1 (l2).
    """

    def __init__(self, grid: PivotGrid, most: int) -> None:
        self._cosine, self._longest = grid.cosine, grid.longest
        P, D = grid.numbers.shape
        d = min(most, D)
        if d == most:
            sample = np.unique(np.linspace(0, P - 1, min(P, PRINCIPAL_ROWS)).astype(np.int64))
            rows = grid.numbers[sample] * grid.scale[sample, np.newaxis]
            _, axes = np.linalg.eigh(rows.T @ rows)  # ascending; in float64 it takes twice as long and finds no more
            strongest = np.arange(D - 1, D - 1 - d, -1)
            paired = np.stack([strongest, strongest[::-1]], axis=1).ravel()[:d]
            self.axes: NDArray[np.float32] = np.ascontiguousarray(axes[:, paired].T, dtype=np.float32)
        else:
            self.axes = np.eye(D, dtype=np.float32)
        self.pivots: NDArray[np.float32] = (grid.numbers @ self.axes.T) * grid.scale[:, np.newaxis]

    def scale(self, features: GridFeatures) -> NDArray[np.float32]:
        """N descriptors, scaled as the pivots are and not projected: float32 (N, D)."""
        return features.divided(features.lengths if self._cosine else self._longest)


class PivotProjection:
    """All pivots compared in their principal components, two of which make half a byte.

    The codes are faiss's product quantization of 4 bits, whose tables fit into the processor's registers (André,
    Kermarrec and Le Scouarnec, "Cache locality is not enough", VLDB 2015). Where it is not installed, components are
    compared as they are, which takes several times as long.

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
                self._codes = _codes(self._components, cosine=grid.cosine)
            self._transform = _transform(self._components.axes)
        except MissingExtra:
            self._codes = None

    def candidates(self, features: GridFeatures, count: int) -> NDArray[np.int64]:
        """Among which pivots to look for the nearest.

        Args:
            features: N descriptors.
            count: how many are wanted of each.

        Returns:
            Numbers of pivots, int64 (N, C), ascending; −1 where fewer are told apart from the farthest.
        """
        N, P = len(features.numbers), len(self._components.pivots)
        most = max(MIN_CANDIDATES, CANDIDATES_PER_PIVOT * count)
        if most >= P:
            return np.broadcast_to(np.arange(P), (N, P))
        scaled = self._components.scale(features)
        if self._codes is None:
            found = self._nearest(scaled, most)
        else:
            with one_thread():
                _, found = self._codes.search(self._projected(scaled), most)
        numbers: NDArray[np.int64] = np.sort(found, axis=1)
        return numbers

    def _projected(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """By faiss, on this thread: numpy's BLAS would take several."""
        axes = self._components.axes
        if len(scaled) == 1:  # in a third of the time that a product of matrices takes
            return multiply_candidates(scaled, axes, np.arange(len(axes))[np.newaxis])
        projected: NDArray[np.float32] = self._transform.apply(scaled)
        return projected

    def _nearest(self, scaled: NDArray[np.float32], most: int) -> NDArray[np.int64]:
        axes, pivots = self._components.axes, self._components.pivots
        if len(scaled) == 1:  # not by BLAS: on a busy machine its threads wait for each other, 20 ms instead of 0.2
            look = np.einsum("nd,pd->np", np.einsum("nD,dD->nd", scaled, axes), pivots)  # (N, P)
        else:
            look = scaled @ axes.T @ pivots.T
        if self._halves is not None:
            look -= self._halves
        return np.argpartition(look, len(pivots) - most, axis=1)[:, len(pivots) - most :]


def _codes(components: PrincipalComponents, *, cosine: bool) -> Any:
    module = faiss()
    P, d = components.pivots.shape
    # Of fewer than `COMPONENTS` dimensions each has half a byte of its own.
    parts = d // 2 if d == COMPONENTS else d
    metric = module.METRIC_INNER_PRODUCT if cosine else module.METRIC_L2
    index = module.IndexPQFastScan(d, parts, 4, metric)
    index.pq.cp.min_points_per_centroid = 1  # it would warn on standard error
    index.pq.cp.max_points_per_centroid = TRAINED_BY
    index.pq.cp.niter = ITERATIONS
    index.train(np.ascontiguousarray(components.pivots[:: -(-P // TRAINING_PIVOTS)]))
    index.add(components.pivots)
    return index


def _transform(axes: NDArray[np.float32]) -> Any:
    transform = faiss().LinearTransform(axes.shape[1], len(axes), False)
    faiss().copy_array_to_vector(axes.ravel(), transform.A)
    transform.is_trained = True
    return transform
