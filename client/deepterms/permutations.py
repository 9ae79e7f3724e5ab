"""Permutations: from features to rankings of their components, and the distances between them (Section 3.1).

All distances take *inverted* permutations: the position of every component, counted from 1. If a permutation is
truncated to its first K components, all others are at position K + 1, the location parameter (Fagin, Kumar, Sivakumar,
"Comparing top k lists", SIAM Journal on Discrete Mathematics 17, 2003).

**Why an engine can search by them.** A component at position p ≤ K occurs K + 1 − p times in the surrogate text, so the
difference of two positions is the difference of the two frequencies f and g, and ρ² = Σf² + Σg² − 2·Σf·g. Σf² is the
same for all surrogates of K codewords. Hence the engine's dot product ranks documents as Spearman's rho does, nearest
first, with equal scores for equal distances. This also holds if queries are truncated to a different K than documents,
each with its own location parameter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = ["inverted_permutations", "kendall_tau", "permutations", "spearman_footrule", "spearman_rho"]

# Positions of documents that `kendall_tau` sorts at once.
BLOCK_POSITIONS = 2**20


def permutations(features: ArrayLike) -> NDArray[np.int64]:
    """Rank components by value, descending, then by number, ascending.

    Args:
        features: numbers (N, V) or (V,).

    Returns:
        int64, the same shape: Π(p) is the component at position p, both counted from 1 as in the paper.
    """
    array = np.asarray(features)
    return np.argsort(-array, axis=-1, kind="stable") + 1


def inverted_permutations(features: ArrayLike, *, top_k: int | None = None) -> NDArray[np.int64]:
    """Return the position of every component in its permutation: Π⁻¹(Π(p)) = p.

    Args:
        features: numbers (N, V) or (V,).
        top_k: truncate to K components: all beyond position K get position K + 1 (location parameter K + 1).

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

    The maximum is √(V·(V² − 1)/3), between a permutation and its reverse; for truncation to K ≤ V/2 components it is
    √(K·(K + 1)·(2·K + 1)/3), between two with no component in common. Spearman's correlation coefficient is
    1 − 6·ρ²/(V·(V² − 1)). Time O(Q·N·V).

    Args:
        first: positions (Q, V), or (V,) for one permutation.
        second: positions (N, V), or (V,).

    Returns:
        distances of all pairs, float64 (Q, N). The axis of an argument given as (V,) is dropped.

    Raises:
        InvalidInput: an argument does not have one or two axes, or the numbers of components differ.
    """
    return _compare_all_pairs(first, second, "euclidean")


def spearman_footrule(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Spearman's footrule: Σ|a − b|, the L1 distance of two inverted permutations; a metric.

    The maximum is ⌊V²/2⌋; for truncation to K ≤ V/2 components it is K·(K + 1): Fagin's F with location parameter
    K + 1. Time O(Q·N·V). Arguments, result and errors are those of `spearman_rho`.
    """
    return _compare_all_pairs(first, second, "cityblock")


def kendall_tau(first: ArrayLike, second: ArrayLike, *, penalty: float = 0.5) -> NDArray[np.float64]:
    """Kendall's tau as a distance: the number of pairs of components that two permutations order differently.

    The maximum is V·(V − 1)/2, and tau is a metric. Kendall's correlation coefficient is 1 − 4·τ/(V·(V − 1)).

    For truncated permutations, only components listed by at least one of the two are paired (Fagin's K with penalty
    parameter p). A pair counts 1 if both permutations list both components, in different order; if one lists both and
    the other only the later of them; or if each lists a different one. It counts `penalty` if one permutation lists
    both and the other neither, as their order in the other is unknown. The maximum is K² + p·K·(K − 1). This is not a
    metric, but within constant factors of one.

    Time O(Q·N·(V + K·log²K)), by merge sort (Knight, 1966) of many documents at once.

    Args:
        first: positions (Q, V), or (V,) for one permutation.
        second: positions (N, V), or (V,). They may be truncated to a different K.
        penalty: p, from 0 (optimistic) to 1; ½ is neutral.

    Returns:
        distances of all pairs, float64 (Q, N). The axis of an argument given as (V,) is dropped.

    Raises:
        InvalidInput: as for `spearman_rho`; the penalty is out of range; or positions do not form a permutation.
    """
    if not 0 <= penalty <= 1:
        raise InvalidInput(f"penalty is {penalty}; expected 0 to 1")
    a, b = _as_rows(first, second)
    listed, others = _count_listed(a), _count_listed(b)
    distances = np.zeros((len(a), len(b)))
    rows = max(1, BLOCK_POSITIONS // max(listed, 1))
    for query, positions in enumerate(a):
        best = np.argsort(positions, kind="stable")[:listed]  # (K,) components, first position first
        for start in range(0, len(b), rows):
            block = slice(start, start + rows)
            distances[query, block] = _count_disagreements(b[block][:, best], others=others, penalty=penalty)
    return _restore_shape(distances, first, second)


def _count_disagreements(places: NDArray[np.int64], *, others: int, penalty: float) -> NDArray[np.float64]:
    """Compute Kendall's distance of one list to N others.

    Args:
        places: the positions of this list's components in each other list, first component first, int64 (N, K).
        others: the number of components in each other list; a larger position means that the component is missing.
        penalty: p.
    """
    listed = places.shape[1]
    common = places <= others
    shared = common.sum(axis=1)
    here, there = listed - shared, others - shared  # components in only one list
    # Pairs with both components in this list disagree if the other list inverts them; components that it lacks come
    # last. Pairs with only one component in this list disagree if the missing component comes first in the other list.
    ahead = np.where(common, places - 1, 0).sum(axis=1) - shared * (shared - 1) // 2
    unknown = (here * (here - 1) + there * (there - 1)) // 2
    return np.asarray(_count_inversions(places) + ahead + here * there + penalty * unknown)


def _count_inversions(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the pairs of each row (N, K) that are in descending order: int64 (N,)."""
    count, length = rows.shape
    size = 1 << max(length - 1, 0).bit_length()
    largest = int(rows.max(initial=0)) + 1
    # Each key holds a number and, in the low bits, its place, so that ties keep their order and every key shows its
    # origin. The padding is larger than all numbers before it, so it adds no inversion.
    kind = np.uint32 if largest * size < 2**32 else np.uint64
    runs = np.full((count, size), largest, dtype=kind)
    runs[:, :length] = rows
    runs = runs * kind(size) + np.arange(size, dtype=kind)
    inversions = np.zeros(count, dtype=np.int64)
    half = 1
    while half < size:
        runs = np.sort(runs.reshape(count, size // (2 * half), 2 * half), axis=2)
        # After sorting, a number of the right half follows those before it in its half and all numbers of the left half
        # that are not larger. The remaining numbers of the left half are its inversions.
        places = np.where(runs & kind(half), np.arange(2 * half), 0).sum(axis=2)
        inversions += (half * half + half * (half - 1) // 2 - places).sum(axis=1)
        half *= 2
    return inversions


def _compare_all_pairs(first: ArrayLike, second: ArrayLike, metric: str) -> NDArray[np.float64]:
    from scipy.spatial.distance import cdist  # slow to import, and rarely needed

    return _restore_shape(cdist(*_as_rows(first, second), metric), first, second)


def _as_rows(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    a, b = np.asarray(first), np.asarray(second)
    if not (a.ndim in (1, 2) and b.ndim in (1, 2)):
        raise InvalidInput(f"inverted permutations must have shape (V,) or (N, V); got {a.shape} and {b.shape}")
    if a.shape[-1] != b.shape[-1]:
        raise InvalidInput(f"cannot compare inverted permutations of {a.shape[-1]} and {b.shape[-1]} components")
    return np.atleast_2d(a), np.atleast_2d(b)


def _restore_shape(distances: NDArray[np.float64], first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    return distances.reshape(np.shape(first)[:-1] + np.shape(second)[:-1])


def _count_listed(positions: NDArray[np.int64]) -> int:
    """Return K, the number of components that each permutation of (N, V) lists; V if they are not truncated."""
    length = int(positions.shape[1])
    if not positions.size:
        return length
    last = int(positions.max())
    listed = length if last == length else last - 1
    expected = np.minimum(np.arange(1, length + 1), last)  # (V,)
    if not (np.sort(positions, axis=1) == expected).all():
        raise InvalidInput(
            f"a row of positions is not a permutation of {length} components truncated to {listed}; expected each "
            f"position from 1 to {listed} once; use inverted_permutations, with the same top_k for all rows"
        )
    return listed
