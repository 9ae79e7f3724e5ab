"""Bounds: the recall of some queries turned into one that other queries will reach."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["bound_recall"]

ONE_SIDED_95 = 1.645  # the .95 quantile of the normal distribution
# Queries that all find everything have no variance, which does not make the next one certain. One more query that finds
# half is added, like the pseudo-counts of Agresti and Coull ("Approximate is better than exact", 1998).
ASSUMED = 0.5


def bound_recall(shares: ArrayLike) -> float:
    """Compute the lower bound of a one-sided 95 % confidence interval for the mean recall.

    Args:
        shares: share of the true neighbours that each query found, 0 to 1, (Q,).
    """
    values = np.append(np.asarray(shares, dtype=np.float64), ASSUMED)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.5
    return max(0.0, float(values.mean()) - ONE_SIDED_95 * error)
