"""Pairs: from two numbers to one codeword number, and from a ranking to the pairs of its first places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.terms import TermFrequencies

__all__ = ["build_pair_terms", "count_pairs", "list_rank_pairs", "number_pairs"]


def count_pairs(numbers: int) -> int:
    """Count the unordered pairs of different numbers below `numbers`."""
    return numbers * (numbers - 1) // 2


def number_pairs(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number each unordered pair a < b, given in either order: b·(b − 1)/2 + a, which is below `count_pairs`."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    numbers: NDArray[np.int64] = high * (high - 1) // 2 + low
    return numbers


def list_rank_pairs(places: int, *, rank_sum: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the pairs of the first places of a ranking.

    Args:
        places: the number of places to pair.
        rank_sum: list only pairs whose ranks, counted from 1, sum to at most this.

    Returns:
        Two arrays of places counted from 0, int64 (pairs,); in each pair the first place precedes the second.
    """
    first, second = np.triu_indices(places, 1)
    kept = first + second + 2 <= (2 * places if rank_sum is None else rank_sum)
    return first[kept].astype(np.int64), second[kept].astype(np.int64)


def build_pair_terms(
    numbers: NDArray[np.int64], weights: NDArray[np.int32], *, vocabulary_size: int
) -> TermFrequencies:
    """Build term frequencies (N, V) from the pairs of N rows.

    Args:
        numbers: codewords, int64 (N, n); −1 for none. No codeword occurs twice in a row.
        weights: their frequencies, int32 (N, n).
        vocabulary_size: V.
    """
    order = np.argsort(numbers, axis=1)
    numbers, weights = np.take_along_axis(numbers, order, axis=1), np.take_along_axis(weights, order, axis=1)
    kept = numbers >= 0
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    shape = (len(numbers), vocabulary_size)
    matrix = sparse.csr_array((weights[kept], numbers[kept].astype(np.int32), indptr), shape=shape)
    matrix.has_canonical_format = True  # sorted, and each pair occurs once per row
    return TermFrequencies(matrix)
