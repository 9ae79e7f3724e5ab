"""Principal components of pivots: the few directions in which candidates for the nearest of them are looked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.grid import GridFeatures, PivotGrid

__all__ = ["PrincipalComponents"]

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

    def scaled(self, features: GridFeatures) -> NDArray[np.float32]:
        """N descriptors, scaled as the pivots are and not projected: float32 (N, D)."""
        return features.divided(features.lengths if self._cosine else self._longest)
