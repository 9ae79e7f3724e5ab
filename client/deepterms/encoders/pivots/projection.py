"""Projection: from descriptors to candidates for their nearest pivots, by comparing all pivots in few dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid
from deepterms.encoders.pivots.products import multiply_candidates
from deepterms.errors import MissingExtra
from deepterms.optional import faiss, one_thread

__all__ = ["PivotProjection"]

# Measured in benchmarks/pivot_assignment.py: fewer components or candidates miss more pivots, more cost more time. With
# 4 candidates per pivot, .987 of a query's 16 nearest of 32,768 were found, with 8 .994, and R@10 of 2,000,000 mixtures
# rose by .005.
COMPONENTS = 384
CANDIDATES_PER_PIVOT = 8
MIN_CANDIDATES = 96
# The training of the codes: pivots used, pivots per centroid, and k-means iterations. Candidates include as many of the
# nearest as with faiss's defaults of 256 per centroid and 25 iterations, and the first search waits a third as long.
TRAINING_PIVOTS = 16_384
PIVOTS_PER_CENTROID = 128
ITERATIONS = 10
# Pivots from which the principal components are computed.
PRINCIPAL_ROWS = 8_192


class PrincipalComponents:
    """Projects pivots and descriptors to the directions in which pivots vary most, if they have more dimensions.

    The first component is the strongest, the second the weakest, the third the second strongest, and so on. Hence all
    pairs of consecutive components vary by about the same amount, which is best for codes of two components each (Ge,
    He, Ke and Sun, "Optimized Product Quantization", CVPR 2013).

    Components may be rounded differently on another processor or by another release of numpy, which changes a few
    candidates.

    Args:
        grid: the pivots.
        max_components: the number of components, if the pivots have more dimensions; otherwise all are kept.

    Attributes:
        axes: unit vectors, float32 (d, D).
        pivots: projected pivots, float32 (P, d), of length 1 (cosine) or at most 1 (l2) before the projection.
    """

    def __init__(self, grid: PivotGrid, max_components: int) -> None:
        self._cosine, self._longest = grid.cosine, grid.longest
        P, D = grid.numbers.shape
        d = min(max_components, D)
        if d == max_components:
            sample = np.unique(np.linspace(0, P - 1, min(P, PRINCIPAL_ROWS)).astype(np.int64))
            rows = grid.numbers[sample] * grid.scale[sample, np.newaxis]
            _, axes = np.linalg.eigh(rows.T @ rows)  # ascending; float64 takes twice as long and finds no more
            strongest = np.arange(D - 1, D - 1 - d, -1)
            paired = np.stack([strongest, strongest[::-1]], axis=1).ravel()[:d]
            self.axes: NDArray[np.float32] = np.ascontiguousarray(axes[:, paired].T, dtype=np.float32)
        else:
            self.axes = np.eye(D, dtype=np.float32)
        self.pivots: NDArray[np.float32] = (grid.numbers @ self.axes.T) * grid.scale[:, np.newaxis]

    def scale(self, features: GridFeatures) -> NDArray[np.float32]:
        """Scale N descriptors as the pivots are scaled, without projecting them: float32 (N, D)."""
        return features.divide(features.lengths if self._cosine else self._longest)


class PivotProjection:
    """Compares all pivots by 4-bit codes, each of two principal components.

    The codes are faiss's 4-bit product quantization, whose tables fit into the processor's registers (André, Kermarrec
    and Le Scouarnec, "Cache locality is not enough", VLDB 2015). Without faiss, the components themselves are compared,
    which takes several times as long.

    Args:
        grid: the pivots.
    """

    def __init__(self, grid: PivotGrid) -> None:
        self._components = PrincipalComponents(grid, COMPONENTS)
        pivots = self._components.pivots
        # p·q − ‖p‖²/2 ranks as the distance does, and p·q as the cosine does.
        self._halves = None if grid.cosine else np.einsum("pd,pd->p", pivots, pivots) / 2
        try:
            with one_thread():
                self._codes = _train_codes(self._components, cosine=grid.cosine)
            self._transform = _build_transform(self._components.axes)
        except MissingExtra:
            self._codes = None

    def find_candidates(self, features: GridFeatures, count: int) -> NDArray[np.int64]:
        """Find candidates for the nearest pivots.

        Args:
            features: N descriptors.
            count: the number of nearest pivots wanted per descriptor.

        Returns:
            Pivot numbers, int64 (N, C), ascending; −1 where the codes distinguish too few pivots.
        """
        N, P = len(features.numbers), len(self._components.pivots)
        wanted = max(MIN_CANDIDATES, CANDIDATES_PER_PIVOT * count)
        if wanted >= P:
            return np.broadcast_to(np.arange(P), (N, P))
        scaled = self._components.scale(features)
        if self._codes is None:
            found = self._compare_components(scaled, wanted)
        else:
            with one_thread():
                _, found = self._codes.search(self._project(scaled), wanted)
        numbers: NDArray[np.int64] = np.sort(found, axis=1)
        return numbers

    def _project(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project by faiss on this thread, as numpy's BLAS would use several."""
        axes = self._components.axes
        if len(scaled) == 1:  # takes a third of the time of a matrix product
            return multiply_candidates(scaled, axes, np.arange(len(axes))[np.newaxis])
        projected: NDArray[np.float32] = self._transform.apply(scaled)
        return projected

    def _compare_components(self, scaled: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
        """Find candidates without faiss."""
        axes, pivots = self._components.axes, self._components.pivots
        if len(scaled) == 1:  # not BLAS: on a busy machine its threads wait for each other, 20 ms instead of 0.2
            nearness = np.einsum("nd,pd->np", np.einsum("nD,dD->nd", scaled, axes), pivots)  # (N, P)
        else:
            nearness = scaled @ axes.T @ pivots.T
        if self._halves is not None:
            nearness -= self._halves
        return np.argpartition(nearness, len(pivots) - wanted, axis=1)[:, len(pivots) - wanted :]


def _train_codes(components: PrincipalComponents, *, cosine: bool) -> Any:
    module = faiss()
    P, d = components.pivots.shape
    # With fewer than `COMPONENTS` dimensions, each gets its own 4-bit code.
    parts = d // 2 if d == COMPONENTS else d
    metric = module.METRIC_INNER_PRODUCT if cosine else module.METRIC_L2
    index = module.IndexPQFastScan(d, parts, 4, metric)
    index.pq.cp.min_points_per_centroid = 1  # avoids a warning on standard error
    index.pq.cp.max_points_per_centroid = PIVOTS_PER_CENTROID
    index.pq.cp.niter = ITERATIONS
    index.train(np.ascontiguousarray(components.pivots[:: -(-P // TRAINING_PIVOTS)]))
    index.add(components.pivots)
    return index


def _build_transform(axes: NDArray[np.float32]) -> Any:
    transform = faiss().LinearTransform(axes.shape[1], len(axes), False)
    faiss().copy_array_to_vector(axes.ravel(), transform.A)
    transform.is_trained = True
    return transform
