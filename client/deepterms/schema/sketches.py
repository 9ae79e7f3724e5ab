"""Sketches: sign bits of descriptors, that is, binary quantization, to find the best of many candidates quickly.

The share of signs in which two descriptors differ follows the angle between them (Charikar, "Similarity estimation
techniques from rounding algorithms", 2002; here with the descriptors' own axes instead of random ones). Thousands of
candidates can therefore be compared by D bits each, and only the best hundred of them exactly.

An index stores sketches in a separate binary doc value, ``sketch``. Its pipeline computes them from the stored
vectors, so clients that send documents need not know about them, and a migration can add them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["SKETCH", "count_agreeing_signs", "count_sketch_bytes", "count_survivors", "wants_sketch"]

SKETCH = "sketch"  # the field

# How many candidates are compared exactly after their sketches. Of the 4,000 nearest of 100,000 mixtures (1,280
# dimensions), the best 100 by sketch contained .999 of the ten nearest; the best 50 contained .998, and saved a tenth
# of a millisecond.
MIN_SURVIVORS = 100
MIN_FAR_SURVIVORS = 400
SURVIVORS_PER_HIT = 4
# Indices have sketches by default from these numbers on. With fewer candidates or shorter vectors, sketches save no
# time, and fewer bits are less accurate.
MIN_CANDIDATES = 500
MIN_DIMENSIONS = 1_024


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


def count_agreeing_signs(query: NDArray[np.float32], vector: NDArray[np.float32] | None) -> int:
    """Compute the score that `score_by_sketch` gives a document.

    Args:
        query: float32 (D,).
        vector: the document's stored vector, float32 (D,); None if it has none.
    """
    if vector is None:
        return 0
    return 8 * count_sketch_bytes(len(query)) - int(np.count_nonzero(np.signbit(query) != np.signbit(vector)))
