"""Products of descriptors with the few pivots that each of them may be near to."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import MissingExtra
from deepterms.optional import faiss, one_thread

__all__ = ["multiply_candidates"]

Real = TypeVar("Real", np.float32, np.float64)

# Bytes of pivots that are gathered at once: they stay in the cache.
BLOCK_BYTES = 2**20


def multiply_candidates(
    features: NDArray[Real], pivots: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[Real]:
    """Products, summed in the dtype of the descriptors.

    Args:
        features: N descriptors, float32 or float64 (N, D).
        pivots: (P, D).
        candidates: numbers of pivots, int64 (N, C); of one below zero the product means nothing.

    Returns:
        (N, C), of the dtype of the descriptors.
    """
    products = np.empty(candidates.shape, dtype=features.dtype)
    if features.dtype == np.float32 and _without_gathering(products, features, pivots, candidates):
        return products
    N, C = candidates.shape
    columns = max(1, BLOCK_BYTES // (features.itemsize * features.shape[1]))
    rows = max(1, columns // max(1, C))
    for top in range(0, N, rows):
        for left in range(0, C, columns):
            place = slice(top, top + rows), slice(left, left + columns)
            gathered = pivots[candidates[place]].astype(features.dtype, copy=False)  # (n, c, D)
            # Not by BLAS, whose own threads get into the way of ours for products as small as these.
            np.einsum("ncd,nd->nc", gathered, features[top : top + rows], out=products[place])
    return products


def _without_gathering(
    products: NDArray[Any], features: NDArray[Any], pivots: NDArray[np.float32], candidates: NDArray[np.int64]
) -> bool:
    """Of float32 by faiss, in half the time; false where it is not installed."""
    try:
        module = faiss()
    except MissingExtra:
        return False
    features, candidates = np.ascontiguousarray(features), np.ascontiguousarray(candidates)
    arrays = [module.swig_ptr(array) for array in (products, features, pivots, candidates)]
    with one_thread():
        module.fvec_inner_products_by_idx(*arrays, features.shape[1], *candidates.shape)
    return True
