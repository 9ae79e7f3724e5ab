"""Permutations of components as the paper writes them, and the distances between them (Section 3.1).

All distances take *inverted* permutations: the position of every component, counted from 1. One that is truncated to
its first K components has all others at position K + 1, the location parameter (Fagin, Kumar, Sivakumar, "Comparing top
k lists", SIAM Journal on Discrete Mathematics 17, 2003).

**Why an engine can search by them.** Where a component at position p ≤ K occurs K + 1 − p times in the surrogate text,
the difference of two positions is the difference of the two frequencies, so ρ² = Σf² + Σg² − 2·Σf·g. Σf² is the same
for all surrogates of K codewords: the engine's dot product ranks as Spearman's rho does, from the nearest to the
farthest, equal scores for equal distances. So it is where queries are truncated to another number than documents, each
with its own location parameter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from deepterms.errors import InvalidInput

__all__ = ["inverted_permutations", "kendall_tau", "permutations", "spearman_footrule", "spearman_rho"]

# Positions of documents that are sorted at once, by `kendall_tau`.
BLOCK_POSITIONS = 2**20


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
    """Spearman's rho as a distance: √Σ(a − b)², the L2 distance of two inverted permutations; a metric.

    From 0 to √(V·(V² − 1)/3), of one permutation and its reverse; truncated to K ≤ V/2 components from 0 to
    √(K·(K + 1)·(2·K + 1)/3), of two that have none in common. Spearman's coefficient of correlation is
    1 − 6·ρ²/(V·(V² − 1)). Time O(Q·N·V).

    Args:
        first: positions (Q, V), or (V,) of one permutation.
        second: positions (N, V), or (V,).

    Returns:
        float64 (Q, N): of each of the first with each of the second; the axis of one given as (V,) is left out.

    Raises:
        InvalidInput: not of one or two axes, or of another number of components.
    """
    return _each_with_each(first, second, "euclidean")


def spearman_footrule(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Spearman's footrule: Σ|a − b|, the L1 distance of two inverted permutations; a metric.

    From 0 to ⌊V²/2⌋; truncated to K ≤ V/2 components from 0 to K·(K + 1): Fagin's F with location parameter K + 1.
    Time O(Q·N·V). Arguments, result and errors as `spearman_rho`.
    """
    return _each_with_each(first, second, "cityblock")


def kendall_tau(first: ArrayLike, second: ArrayLike, *, penalty: float = 0.5) -> NDArray[np.float64]:
    """Kendall's tau as a distance: how many pairs of components two permutations order differently.

    From 0 to V·(V − 1)/2, and a metric. Kendall's coefficient of correlation is 1 − 4·τ/(V·(V − 1)).

    Of truncated permutations, only pairs of components that are among the first of either are counted (Fagin's K with
    penalty parameter p): 1 for a pair that one orders and the other must order differently, as it lists only the one
    that is later there; 1 if each lists another of the two; `penalty` if one lists both and the other none, so that
    nobody knows. From 0 to K² + p·K·(K − 1); no metric then, but within constant factors of one.

    Time O(Q·N·(V + K·log²K)), by merge sort (Knight, 1966) of many documents at once.

    Args:
        first: positions (Q, V), or (V,) of one permutation.
        second: positions (N, V), or (V,). They may be truncated to another number of components.
        penalty: p, from 0, the optimistic, to 1; ½ is the neutral one.

    Returns:
        float64 (Q, N): of each of the first with each of the second; the axis of one given as (V,) is left out.

    Raises:
        InvalidInput: as `spearman_rho`, a penalty out of range, or positions that are of no permutation.
    """
    if not 0 <= penalty <= 1:
        raise InvalidInput(f"penalty is {penalty}; expected 0 to 1")
    a, b = _rows(first, second)
    listed, others = _listed(a), _listed(b)
    found = np.zeros((len(a), len(b)))
    rows = max(1, BLOCK_POSITIONS // max(listed, 1))
    for query, positions in enumerate(a):
        best = np.argsort(positions, kind="stable")[:listed]  # (K,) components, the first position first
        for start in range(0, len(b), rows):
            block = slice(start, start + rows)
            found[query, block] = _disagreements(b[block][:, best], others=others, penalty=penalty)
    return _shaped(found, first, second)


def _disagreements(places: NDArray[np.int64], *, others: int, penalty: float) -> NDArray[np.float64]:
    """Kendall's distance of one list to N others.

    Args:
        places: (N, K): the positions in each other list of this one's components, its first component first.
        others: how many components each other list has; a larger position is of one that it lacks.
        penalty: p.
    """
    listed = places.shape[1]
    common = places <= others
    shared = common.sum(axis=1)
    here, there = listed - shared, others - shared  # what is in one list only
    # Pairs of which this list has both are in disorder where the other places them so: what it lacks comes last. Pairs
    # of which it has but one are, where the other one is ahead there.
    ahead = np.where(common, places - 1, 0).sum(axis=1) - shared * (shared - 1) // 2
    unknown = (here * (here - 1) + there * (there - 1)) // 2
    return np.asarray(_inversions(places) + ahead + here * there + penalty * unknown)


def _inversions(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pairs of each row (N, K) are in descending order: int64 (N,)."""
    count, length = rows.shape
    size = 1 << max(length - 1, 0).bit_length()
    largest = int(rows.max(initial=0)) + 1
    # Each number with its place in the low bits, so that equal ones stay in order and every key tells where it was.
    # What fills a row up is larger than all before it: no pair of its own.
    kind = np.uint32 if largest * size < 2**32 else np.uint64
    runs = np.full((count, size), largest, dtype=kind)
    runs[:, :length] = rows
    runs = runs * kind(size) + np.arange(size, dtype=kind)
    inversions = np.zeros(count, dtype=np.int64)
    half = 1
    while half < size:
        runs = np.sort(runs.reshape(count, size // (2 * half), 2 * half), axis=2)
        # A number of the right half stands behind those before it there, and behind all of the left half that are not
        # larger; the others of the left half are its inversions.
        places = np.where(runs & kind(half), np.arange(2 * half), 0).sum(axis=2)
        inversions += (half * half + half * (half - 1) // 2 - places).sum(axis=1)
        half *= 2
    return inversions


def _each_with_each(first: ArrayLike, second: ArrayLike, metric: str) -> NDArray[np.float64]:
    return _shaped(cdist(*_rows(first, second), metric), first, second)


def _rows(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    a, b = np.asarray(first), np.asarray(second)
    if not (a.ndim in (1, 2) and b.ndim in (1, 2)):
        raise InvalidInput(f"inverted permutations are (V,) or (N, V); got the shapes {a.shape} and {b.shape}")
    if a.shape[-1] != b.shape[-1]:
        raise InvalidInput(f"inverted permutations of {a.shape[-1]} and {b.shape[-1]} components cannot be compared")
    return np.atleast_2d(a), np.atleast_2d(b)


def _shaped(found: NDArray[np.float64], first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    return found.reshape(np.shape(first)[:-1] + np.shape(second)[:-1])


def _listed(positions: NDArray[np.int64]) -> int:
    """K: how many components each permutation of (N, V) lists; V if they are not truncated."""
    length = int(positions.shape[1])
    if not positions.size:
        return length
    last = int(positions.max())
    listed = length if last == length else last - 1
    expected = np.minimum(np.arange(1, length + 1), last)  # (V,)
    if not (np.sort(positions, axis=1) == expected).all():
        raise InvalidInput(
            f"a row of positions is none of a permutation of {length} components, truncated to {listed}: each position "
            f"from 1 to {listed} occurs once; take what inverted_permutations returns, with one top_k for all"
        )
    return listed
