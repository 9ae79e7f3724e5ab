"""Exact re-ranking inside the cluster: a script that computes the cosine of the query and a stored vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["COSINE_OFFSET", "DEFAULT_RERANK", "NO_VECTOR", "rerank_window", "rescore"]

DEFAULT_RERANK = 200  # candidates; for quality against time see the README's table

# The engines refuse negative scores; what the script returns is the cosine plus this.
COSINE_OFFSET = 2.0
NO_VECTOR = -1.0  # the cosine that stands for a document that stores none

# A component of the query travels as two characters of 15 bits, so that all stay far below the surrogates (55,296).
CHARACTER_BITS = 15
QUERY_LEVELS = 2 ** (2 * CHARACTER_BITS - 1) - 1

# One script for both engines. A stored vector is little-endian float32; a document without one comes last, with the
# cosine −1. The query travels as text: charAt is a primitive read, where each number of a JSON list is an object, and
# that made the whole search half as fast. 30 bits leave only the rounding of the engine's float32 scores.
SOURCE = """
if (doc['vector'].size() == 0) { return 1.0; }
def stored = doc['vector'].value; byte[] bytes = stored.bytes; int at = stored.offset;
String query = params.query; int characters = query.length(); double sum = 0;
for (int i = 0; i < characters; i += 2) {
  int bits = (bytes[at] & 255) | ((bytes[at + 1] & 255) << 8) | ((bytes[at + 2] & 255) << 16) | (bytes[at + 3] << 24);
  int component = ((int) query.charAt(i) << 15) + (int) query.charAt(i + 1) - 536870912;
  sum += component * (double) Float.intBitsToFloat(bits);
  at += 4;
}
return sum * params.scale + 2.0;
""".strip()


def rerank_window(*, k: int, rerank: int | None, stores_vectors: bool) -> int:
    """How many candidates to re-rank for k hits; 0 for none.

    Args:
        k: hits wanted.
        rerank: as asked; None takes the default, 200 if there are vectors to re-rank by.
        stores_vectors: whether the index keeps descriptors.

    Raises:
        InvalidInput: k or rerank is out of range, or there is nothing to re-rank by.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    if rerank is None:
        rerank = DEFAULT_RERANK if stores_vectors else 0
    if rerank < 0:
        raise InvalidInput(f"rerank is {rerank}; expected 0 (none) or how many candidates to re-rank")
    if rerank and not stores_vectors:
        raise InvalidInput(
            "the index stores no vectors, so it cannot re-rank; pass rerank=0, or create it with store_vectors=True"
        )
    return max(rerank, k) if rerank else 0


def rescore(query: NDArray[np.float32], *, window: int) -> dict[str, Any]:
    """The ``rescore`` part of a search body.

    Args:
        query: float32 (D,), L2-normalised.
        window: how many candidates of each shard are re-ranked; those beyond it keep score 0.

    Returns:
        A body under which a hit scores its cosine with the query plus `COSINE_OFFSET`.
    """
    text, scale = _as_text(query)
    script = {"lang": "painless", "source": SOURCE, "params": {"query": text, "scale": scale}}
    return {
        "window_size": window,
        "query": {
            "query_weight": 0,
            "rescore_query_weight": 1,
            "rescore_query": {"script_score": {"query": {"match_all": {}}, "script": script}},
        },
    }


def _as_text(query: NDArray[np.float32]) -> tuple[str, float]:
    """Two characters a component, and what one unit of their number stands for."""
    scale = float(np.abs(query).max()) / QUERY_LEVELS
    numbers = np.rint(query.astype(np.float64) / scale).astype(np.int64) + QUERY_LEVELS + 1
    characters = np.empty(2 * len(query), dtype="<u2")
    characters[0::2] = numbers >> CHARACTER_BITS
    characters[1::2] = numbers & (2**CHARACTER_BITS - 1)
    return characters.tobytes().decode("utf-16-le"), scale
