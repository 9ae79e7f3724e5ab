"""Permutations of components as the paper writes them, and Spearman's rho between them (Section 3.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = ["inverted_permutations", "permutations", "spearman_rho"]


def permutations(features: ArrayLike) -> NDArray[np.int64]:
    """Components by value descending, then by component ascending.

    Args:
        features: numbers (N, V) or (V,).

    Returns:
        int64, the same shape: Π(p) is the component at position p, both counted from 1 as in the paper.
    """
    array = np.asarray(features)
    return np.argsort(-array, axis=-1, kind="stable") + 1


def inverted_permutations(features: ArrayLike, *, top_k: int | None = None) -> NDArray[np.int64]:
    """The position of every component in its permutation: Π⁻¹(Π(p)) = p.

    Args:
        features: numbers (N, V) or (V,).
        top_k: truncate: components beyond position K are all put at position K + 1 (location parameter K + 1).

    Returns:
        int64, the same shape: positions from 1.
    """
    order = permutations(features) - 1
    positions = np.empty_like(order)
    ranks = np.broadcast_to(np.arange(1, order.shape[-1] + 1), order.shape)
    np.put_along_axis(positions, order, ranks, axis=-1)
    return positions if top_k is None else np.minimum(positions, top_k + 1)


def spearman_rho(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rho as a distance: the L2 distance of two inverted permutations.

    Args:
        first: positions (…, V).
        second: positions (…, V), of a shape that broadcasts with `first`.

    Returns:
        float64 (…).

    Raises:
        InvalidInput: the last axes differ.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape[-1] != b.shape[-1]:
        raise InvalidInput(f"inverted permutations of {a.shape[-1]} and {b.shape[-1]} components cannot be compared")
    return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=-1)))
