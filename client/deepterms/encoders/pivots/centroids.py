"""Centroids: pivots moved into the middle of the descriptors that are nearest to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.pivots.nearest import NearestPivots, select_search
from deepterms.encoders.pivots.pivots import Pivots

__all__ = ["move_to_centroids"]


def move_to_centroids(pivots: Pivots, rows: NDArray[np.float32], *, iterations: int) -> Pivots:
    """K-means from pivots that are there: Lloyd's iterations ("Least squares quantization in PCM", 1982).

    The pivot nearest to a row is found as a document's are, in a small part of the time of comparing with all of them.
    A pivot that is nearest to none stays where it was, and so does one whose rows have no direction together.

    Args:
        pivots: to begin with.
        rows: float32 (n, D), finite and not zero, of length 1 for the metric ``cosine``.
        iterations: how many.
    """
    P, n = len(pivots), len(rows)
    for _ in range(iterations):
        numbers, _ = NearestPivots(pivots, select_search("auto", pivots)).nearest(rows, 1)
        members = sparse.csr_array((np.ones(n, dtype=np.float32), (numbers[:, 0], np.arange(n))), shape=(P, n))
        counts = np.bincount(numbers[:, 0], minlength=P)[:, np.newaxis]
        means: NDArray[np.float32] = members @ rows / np.maximum(counts, 1).astype(np.float32)
        moved = means.any(axis=1, keepdims=True) if pivots.metric == "cosine" else counts > 0
        pivots = Pivots(np.where(moved, means, pivots.features), metric=pivots.metric)
    return pivots
