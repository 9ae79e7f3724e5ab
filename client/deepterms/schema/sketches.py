"""Sketches: the signs of descriptors' components, a bit each, by which the best of many candidates are told quickly.

The share of signs in which two descriptors differ follows the angle between them (Charikar, "Similarity estimation
techniques from rounding algorithms", 2002; here with the descriptors' own axes for random ones). So thousands of
candidates can be compared by D bits, and the best hundred of them exactly.

An index has them in a binary doc value ``sketch`` of its own. Its pipeline makes them out of the stored vectors,
whoever sends the document, so no producer knows of them, and a migration can add them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["SKETCH", "agreement", "by_sketch", "sketch_bytes", "sketch_wanted", "survivors"]

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

# Both sides are padded to whole ints. charAt is a primitive read (see rerank.py). A document without a sketch, or with
# one of another length, comes last.
_SOURCE = """
if (doc['sketch'].size() == 0) { return 0; }
def stored = doc['sketch'].value; byte[] bytes = stored.bytes; int at = stored.offset;
String query = params.query; int length = query.length();
if (stored.length != length) { return 0; }
int different = 0;
for (int i = 0; i < length; i += 4) {
  int own = (bytes[at] & 255) | ((bytes[at + 1] & 255) << 8) | ((bytes[at + 2] & 255) << 16) | (bytes[at + 3] << 24);
  int asked = (int) query.charAt(i) | ((int) query.charAt(i + 1) << 8) | ((int) query.charAt(i + 2) << 16)
    | ((int) query.charAt(i + 3) << 24);
  different += Integer.bitCount(own ^ asked); at += 4;
}
return 8 * length - different;
""".strip()


def sketch_wanted(sketch: bool | None, *, dimensions: int, stores_vectors: bool, rerank: int) -> bool:
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


def survivors(k: int, *, far: bool = False) -> int:
    """How many candidates are compared exactly after their sketches, for k hits.

    Args:
        k: hits.
        far: the candidates are all that a filter keeps, so the nearest of them may not be near.
    """
    return max(MIN_FAR_SURVIVORS if far else MIN_SURVIVORS, SURVIVORS_PER_HIT * k)


def sketch_bytes(dimensions: int) -> int:
    """The length of a sketch: D / 8 bytes, up to a multiple of four."""
    return -(-dimensions // 32) * 4


def by_sketch(query: NDArray[np.float32], matching: Mapping[str, Any]) -> dict[str, Any]:
    """A query under which each document that matches another scores in how many signs it agrees with a descriptor.

    Args:
        query: float32 (D,), finite.
        matching: any query of the engine.
    """
    sketch = np.zeros(sketch_bytes(len(query)), dtype=np.uint8)
    bits = np.packbits(np.signbit(query), bitorder="little")
    sketch[: len(bits)] = bits
    script = {"lang": "painless", "source": _SOURCE, "params": {"query": sketch.tobytes().decode("latin-1")}}
    return {"script_score": {"query": matching, "script": script}}


def agreement(query: NDArray[np.float32], vector: NDArray[np.float32] | None) -> int:
    """What `by_sketch` scores a document that stores a vector, float32 (D,), or none."""
    if vector is None:
        return 0
    return 8 * sketch_bytes(len(query)) - int(np.count_nonzero(np.signbit(query) != np.signbit(vector)))
