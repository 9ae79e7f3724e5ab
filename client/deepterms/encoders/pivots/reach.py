"""Reach: how near the nearest pivot is, for descriptors of which the pivots are to be a fair sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Pivots

__all__ = ["FAR_QUANTILE", "Reach", "nearest_cosines", "reach_of"]

# A descriptor counts as far from every pivot if it is farther than this share of them was at first.
FAR_QUANTILE = 0.05

# A descriptor and itself in float16.
SAME = 0.9999
# Pivots that are compared at once: 8,192 × 1,280 are 42 MB in float32.
PIVOTS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Reach:
    """Quantiles of the cosine between a descriptor and the pivot nearest to it.

    Attributes:
        low: one descriptor in twenty is farther from every pivot.
        middle: the median.
        rows: how many descriptors it is drawn from.
    """

    low: float
    middle: float
    rows: int


def reach_of(features: NDArray[np.float32], pivots: Pivots) -> Reach | None:
    """The reach of pivots among descriptors, those left out that are pivots themselves.

    Args:
        features: float32 (n, D), of the collection for which the pivots were chosen; no row all zero.
        pivots: P of them.

    Returns:
        Quantiles; None if nothing is left.
    """
    cosines = nearest_cosines(features, pivots)
    cosines = cosines[cosines < SAME]
    if not len(cosines):
        return None
    low, middle = np.quantile(cosines, [FAR_QUANTILE, 0.5])
    return Reach(low=float(low), middle=float(middle), rows=len(cosines))


def nearest_cosines(features: NDArray[np.float32], pivots: Pivots) -> NDArray[np.float32]:
    """The cosine of each descriptor with the pivot nearest to it by cosine, whatever the metric of the pivots.

    Args:
        features: float32 (n, D), no row all zero.
        pivots: P of them.

    Returns:
        float32 (n,); −1 where no pivot has a direction.
    """
    nearest = np.full(len(features), -1, dtype=np.float32)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    for start in range(0, len(pivots), PIVOTS_AT_ONCE):
        block = pivots.features[start : start + PIVOTS_AT_ONCE].astype(np.float32)
        norms = np.linalg.norm(block, axis=1)
        block, norms = block[norms > 0], norms[norms > 0]
        if len(block):
            np.maximum(nearest, (features @ block.T / norms).max(axis=1), out=nearest)
    return nearest
