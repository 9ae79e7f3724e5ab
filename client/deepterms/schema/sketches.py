"""Sketches: the signs of descriptors' components, a bit each, by which the best of many candidates are told quickly.

The share of signs in which two descriptors differ follows the angle between them (Charikar, "Similarity estimation
techniques from rounding algorithms", 2002; here with the descriptors' own axes for random ones). So thousands of
candidates can be compared by D bits, and the best hundred of them exactly.

An index has them in a binary doc value ``sketch`` of its own. Its pipeline makes them out of the stored vectors,
whoever sends the document, so no producer knows of them, and a migration can add them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["SKETCH", "count_agreeing_signs", "count_sketch_bytes", "count_survivors", "wants_sketch"]

SKETCH = "sketch"  # the field

# How many are compared exactly after their sketches. Of the 4,000 nearest of 100,000 mixtures (1,280 dimensions) the
# best 100 by their sketches held .999 of the ten nearest and the best 50 .998, for a tenth of a millisecond less.
MIN_SURVIVORS = 100
MIN_FAR_SURVIVORS = 400
SURVIVORS_PER_HIT = 4
# Where indices have sketches unless told otherwise: with fewer candidates, or short vectors, they save nothing, and
# fewer bits tell less.
MIN_CANDIDATES = 500
MIN_DIMENSIONS = 1_024


def wants_sketch(sketch: bool | None, *, dimensions: int, stores_vectors: bool, rerank: int) -> bool:
    """Whether an index has sketches.

    Args:
        sketch: as asked; None where it is not said.
        dimensions: D.
        stores_vectors: whether the index keeps descriptors.
        rerank: how many candidates its searches re-rank usually.

    Raises:
        InvalidInput: they are asked for, and there are no vectors to take signs of.
    """
    if sketch and not stores_vectors:
        raise InvalidInput("a sketch is made of the stored vector, and the index stores none; leave sketch out")
    if sketch is None:
        return stores_vectors and dimensions >= MIN_DIMENSIONS and rerank >= MIN_CANDIDATES
    return sketch


def count_survivors(k: int, *, far: bool = False) -> int:
    """How many candidates are compared exactly after their sketches, for k hits.

    Args:
        k: hits.
        far: the candidates are all that a filter keeps, so the nearest of them may not be near.
    """
    return max(MIN_FAR_SURVIVORS if far else MIN_SURVIVORS, SURVIVORS_PER_HIT * k)


def count_sketch_bytes(dimensions: int) -> int:
    """The length of a sketch: D / 8 bytes, up to a multiple of four."""
    return -(-dimensions // 32) * 4


def count_agreeing_signs(query: NDArray[np.float32], vector: NDArray[np.float32] | None) -> int:
    """What `score_by_sketch` scores a document that stores a vector, float32 (D,), or none."""
    if vector is None:
        return 0
    return 8 * count_sketch_bytes(len(query)) - int(np.count_nonzero(np.signbit(query) != np.signbit(vector)))
