"""Dot products of descriptors with their candidate pivots."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import MissingExtra
from deepterms.optional import faiss, one_thread

__all__ = ["list_columns", "multiply_candidates"]

Real = TypeVar("Real", np.float32, np.float64)

# Bytes of pivots gathered at once: they stay in the CPU cache.
BLOCK_BYTES = 2**20


def list_columns(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """List the true columns of each row (N, C): int64 (N, c), ascending, padded with −1; at least one must be true."""
    rows, columns = np.nonzero(mask)
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    listed = np.full((len(mask), places.max() + 1), -1, dtype=np.int64)
    listed[rows, places] = columns
    return listed


def multiply_candidates(
    features: NDArray[Real], pivots: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[Real]:
    """Multiply each descriptor with its candidates, summing in the dtype of the descriptors.

    Args:
        features: N descriptors, float32 or float64 (N, D).
        pivots: float32 (P, D).
        candidates: pivot numbers, int64 (N, C); the product of a negative one is undefined.

    Returns:
        Dot products (N, C), of the dtype of the descriptors.
    """
    products = np.empty(candidates.shape, dtype=features.dtype)
    if features.dtype == np.float32 and _multiply_with_faiss(products, features, pivots, candidates):
        return products
    N, C = candidates.shape
    columns = max(1, BLOCK_BYTES // (features.itemsize * features.shape[1]))
    rows = max(1, columns // max(1, C))
    for top in range(0, N, rows):
        for left in range(0, C, columns):
            place = slice(top, top + rows), slice(left, left + columns)
            gathered = pivots[candidates[place]].astype(features.dtype, copy=False)  # (n, c, D)
            # Not BLAS: its threads compete with ours for products as small as these.
            np.einsum("ncd,nd->nc", gathered, features[top : top + rows], out=products[place])
    return products


def _multiply_with_faiss(
    products: NDArray[Any], features: NDArray[Any], pivots: NDArray[np.float32], candidates: NDArray[np.int64]
) -> bool:
    """Fill in float32 products by faiss, in half the time; return False if it is not installed."""
    try:
        module = faiss()
    except MissingExtra:
        return False
    features, candidates = np.ascontiguousarray(features), np.ascontiguousarray(candidates)
    arrays = [module.swig_ptr(array) for array in (products, features, pivots, candidates)]
    with one_thread():
        module.fvec_inner_products_by_idx(*arrays, features.shape[1], *candidates.shape)
    return True
