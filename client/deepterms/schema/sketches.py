"""Sketches: sign bits of descriptors, that is, binary quantization, to find the best of many candidates quickly.

Thousands of candidates can be compared by the D bits of their sketches, and only the best 200 of them exactly. A
query keeps its values, in four bits each: a candidate's score is the sum of the query's magnitudes in the components
whose signs agree. Such an asymmetric comparison orders candidates better than a count of agreeing signs does (Gordo,
Perronnin, Gong and Lazebnik, "Asymmetric distances for binary embeddings", TPAMI 2014). Four bits suffice, as Gao and
Long find ("RaBitQ", SIGMOD 2024): `benchmarks/sketches.py` measures no difference to float32.

An index stores sketches in a separate binary doc value, ``sketch``. Its pipeline computes them from the stored
vectors, so clients that send documents need not know about them, and a migration can add them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["SKETCH", "count_sketch_bytes", "count_survivors", "quantise_for_sketches", "score_sketch", "wants_sketch"]

SKETCH = "sketch"  # the field

# How many candidates are compared exactly after their sketches. Of the ten nearest among 1,000 candidates, the best 200
# contained .993 or more in every collection of benchmarks/sketches.py, the best 100 .976; chosen on half of the
# photographs, measured on the other half. Another hundred exact comparisons take about .4 ms.
MIN_SURVIVORS = 200
MIN_FAR_SURVIVORS = 400
SURVIVORS_PER_HIT = 4
# Indices have sketches by default from these numbers on. With fewer candidates or shorter vectors, sketches save no
# time, and fewer bits are less accurate.
MIN_CANDIDATES = 500
MIN_DIMENSIONS = 1_024
# A query's components are rounded to whole numbers up to this one, which four bits hold, and clipped from this many
# times their root mean square on.
QUERY_LEVELS = 7
CLIPPED_FROM = 4.0


def wants_sketch(
    sketch: bool | None, *, dimensions: int, stores_vectors: bool, rerank: int, native: bool = False
) -> bool:
    """Whether an index should have sketches.

    Args:
        sketch: the user's choice; None to decide by the other arguments.
        dimensions: D.
        stores_vectors: whether the index stores descriptors.
        rerank: how many candidates its searches re-rank by default.
        native: whether the engine itself compares vectors, so that sketches save nothing.

    Raises:
        InvalidInput: the user wants sketches, but there are no vectors to compute them from, or the engine compares
            vectors itself.
    """
    if sketch and native:
        raise InvalidInput("sketches are for compare='script'; with compare='native', omit sketch")
    if sketch and not stores_vectors:
        raise InvalidInput("sketches are computed from stored vectors, but the index stores none; omit sketch")
    if sketch is None:
        return stores_vectors and not native and dimensions >= MIN_DIMENSIONS and rerank >= MIN_CANDIDATES
    return sketch


def count_survivors(k: int, *, far: bool = False) -> int:
    """Count the candidates to compare exactly after their sketches.

    Args:
        k: the number of hits.
        far: whether the candidates are all documents that match a filter, so that even the nearest may be far away.
    """
    return max(MIN_FAR_SURVIVORS if far else MIN_SURVIVORS, SURVIVORS_PER_HIT * k)


def count_sketch_bytes(dimensions: int) -> int:
    """Count the bytes of a sketch: D / 8, rounded up to a multiple of four."""
    return -(-dimensions // 32) * 4


def quantise_for_sketches(query: NDArray[np.float32]) -> NDArray[np.int8]:
    """Quantise a query to compare it with sketches: levels from −7 to 7, padded with zeros to whole sketches.

    Args:
        query: float32 (D,), finite and not all zero; its length does not matter.

    Returns:
        int8 (8 · `count_sketch_bytes`,).
    """
    wide = query.astype(np.float64)
    unit = CLIPPED_FROM / QUERY_LEVELS * np.sqrt(np.mean(wide**2))
    levels = np.zeros(8 * count_sketch_bytes(len(query)), dtype=np.int8)
    levels[: len(query)] = np.clip(np.rint(wide / unit), -QUERY_LEVELS, QUERY_LEVELS)
    return levels


def score_sketch(levels: NDArray[np.int8], vector: NDArray[np.float32] | None) -> int:
    """Compute the score that `score_by_sketch` gives a document: a whole number, and so the same on every engine.

    Args:
        levels: the query, from `quantise_for_sketches`.
        vector: the document's stored vector, float32 (D,); None if it has none.

    Returns:
        One more than the sum of the magnitudes of the levels whose sign agrees with the vector's; 0 without a vector.
    """
    if vector is None:
        return 0
    known = levels[: len(vector)]
    return 1 + int(np.abs(known[np.signbit(vector) == (known < 0)]).sum(dtype=np.int64))
