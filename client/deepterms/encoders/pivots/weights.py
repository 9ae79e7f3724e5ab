"""Weights: how near a query's pivots are, as whole numbers that an engine adds up exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Metric

__all__ = ["measure_closeness", "scale_weights"]

# Similarities are scaled to whole numbers up to this, so that an engine's float32 sums stay exact.
MAX_WEIGHT = 1_000


def measure_closeness(nearness: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """How near pivots are, in proportion.

    Args:
        nearness: float64 (N, k), the nearest first, from `NearestPivots`.
        metric: ``cosine``: cosines times the descriptor's length, which are returned as they are; or ``l2``: minus the
            squared distances d², of which 1 − d²/(2·r²) is made, with r the distance of the last: from ½ to 1, the
            same in any unit of length, and of the cosine's form, which is 1 − d²/2 on the unit sphere.
    """
    if metric == "cosine":
        return nearness
    farthest = -nearness[:, -1:]
    return np.where(farthest > 0, 1 + nearness / (2 * np.where(farthest > 0, farthest, 1)), 1.0)


def scale_weights(measure: NDArray[np.float64]) -> NDArray[np.int32]:
    """Whole numbers (N, k): 1,000 for the first of a row, the others in proportion, at least 1."""
    first = measure[:, :1]
    # A query that points away from every pivot has no proportion to keep: each counts alike.
    share = np.where(first > 0, measure / np.where(first > 0, first, 1), 0)
    weights: NDArray[np.int32] = np.maximum(np.rint(share * MAX_WEIGHT), 1).astype(np.int32)
    return weights
