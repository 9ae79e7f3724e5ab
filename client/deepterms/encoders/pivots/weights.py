"""Weights: from the nearness of a query's pivots to whole numbers that an engine sums exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Metric

__all__ = ["measure_closeness", "scale_weights"]

# The largest weight. Whole numbers this small keep an engine's float32 sums exact.
MAX_WEIGHT = 1_000


def measure_closeness(nearness: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Measure the closeness of pivots on a scale whose ratios are meaningful.

    Args:
        nearness: float64 (N, k), nearest first, from `NearestPivots`.
        metric: ``cosine`` or ``l2``.

    Returns:
        float64 (N, k). For ``cosine``, `nearness` itself: cosines times the descriptor's length. For ``l2``, where
        `nearness` is minus the squared distance d²: 1 − d²/(2·r²), where r is the distance of the last pivot. It ranges
        from ½ to 1, is independent of the unit of length, and has the form of the cosine, which is 1 − d²/2 on the unit
        sphere.
    """
    if metric == "cosine":
        return nearness
    farthest = -nearness[:, -1:]
    return np.where(farthest > 0, 1 + nearness / (2 * np.where(farthest > 0, farthest, 1)), 1.0)


def scale_weights(closeness: NDArray[np.float64]) -> NDArray[np.int32]:
    """Scale closeness to whole numbers (N, k): 1,000 for the first of a row, the others in proportion, at least 1."""
    first = closeness[:, :1]
    # A query that points away from every pivot has no proportions to keep, so its pivots weigh the same.
    share = np.where(first > 0, closeness / np.where(first > 0, first, 1), 0)
    weights: NDArray[np.int32] = np.maximum(np.rint(share * MAX_WEIGHT), 1).astype(np.int32)
    return weights
