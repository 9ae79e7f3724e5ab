"""Scripts: builds queries with Painless scripts that score candidates by exact cosine, or by sketch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.schema.native_vectors import NATIVE, split_query
from deepterms.schema.sketches import count_sketch_bytes
from deepterms.schema.vectors import VectorType, count_vector_bytes

__all__ = ["COSINE_OFFSET", "NO_VECTOR", "ComparedBy", "score_by_cosine", "score_by_sketch"]

# The engines reject negative scores, so the script adds this to the cosine.
COSINE_OFFSET = 2.0
NO_VECTOR = -1.0  # the cosine assigned to documents without a vector

# The stored form by which documents are compared: a type of stored vectors, or Elasticsearch's own vector field.
ComparedBy = VectorType | Literal["native"]

# Each component of the query is sent as two characters of 15 bits, which stay far below the surrogates (55,296).
CHARACTER_BITS = 15
QUERY_LEVELS = 2 ** (2 * CHARACTER_BITS - 1) - 1

# One script per type, the same for both engines. Documents without a vector come last, with a cosine of −1. So do
# documents with a vector of another length, or one that gives no cosine (NaN, or beyond ±1), which an index can contain
# if it was written to without its pipeline: a negative score or NaN would fail the whole shard, and other bytes give
# meaningless scores. The query is sent as text: charAt is a primitive read, whereas each number of a JSON list is an
# object, which made the whole search half as fast. With 30 bits, only the rounding of the engine's float32 scores
# remains.
_SOURCE = """
if (doc['vector'].size() == 0) {{ return 1.0; }}
def stored = doc['vector'].value; byte[] bytes = stored.bytes; int at = stored.offset;
if (stored.length != params.bytes) {{ return 1.0; }}
String query = params.query; int characters = query.length(); {before}
for (int i = 0; i < characters; i += 2) {{
  int component = ((int) query.charAt(i) << 15) + (int) query.charAt(i + 1) - 536870912;
  {add}
}}
double score = {cosine} + 2.0;
return score > 0.99 && score < 3.01 ? score : 1.0;
""".strip()
_FLOAT = (
    "Float.intBitsToFloat((bytes[at] & 255) | ((bytes[at + 1] & 255) << 8) | ((bytes[at + 2] & 255) << 16) | "
    "(bytes[at + 3] << 24))"
)
COSINE_SOURCES: Mapping[ComparedBy, str] = {
    # Little-endian float32.
    "float32": _SOURCE.format(
        before="double sum = 0;",
        add=f"sum += component * (double) {_FLOAT}; at += 4;",
        cosine="sum * params.scale",
    ),
    # A float32 scale, then one byte per component, sign and magnitude: the sum is an integer, so exact.
    "int8": _SOURCE.format(
        before=f"long sum = 0; double unit = {_FLOAT}; at += 4;",
        add="int level = bytes[at]; at++; sum += (long) component * (level < 0 ? -128 - level : level);",
        cosine="sum * params.scale * unit",
    ),
    # The engine's own function compares bytes with bytes, so the query is sent in three parts of rising precision. A
    # part of zeros has no cosine. The mapping rejects vectors of another length.
    NATIVE: """
if (doc['vector'].size() == 0) { return 1.0; }
double score = params.w0 * cosineSimilarity(params.q0, 'vector') + 2.0;
if (params.w1 > 0) { score += params.w1 * cosineSimilarity(params.q1, 'vector'); }
if (params.w2 > 0) { score += params.w2 * cosineSimilarity(params.q2, 'vector'); }
return score > 0.99 && score < 3.01 ? score : 1.0;
""".strip(),
}

# Both sketches are padded to whole ints. charAt is a primitive read (as above). Documents without a sketch, or with one
# of another length, come last.
SKETCH_SOURCE = """
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


def score_by_cosine(
    query: NDArray[np.float32], matching: Mapping[str, Any], *, vector_type: ComparedBy
) -> dict[str, Any]:
    """Build a query that scores each matching document by its cosine plus `COSINE_OFFSET`.

    Args:
        query: the descriptor, float32 (D,), L2-normalised.
        matching: any query of the engine; selects the documents.
        vector_type: the type of the stored vectors, or ``native``.
    """
    script = {"lang": "painless", "source": COSINE_SOURCES[vector_type], "params": _parameters(query, vector_type)}
    return {"script_score": {"query": matching, "script": script}}


def _parameters(query: NDArray[np.float32], vector_type: ComparedBy) -> dict[str, Any]:
    if vector_type == NATIVE:
        parts = split_query(query)
        weights = [unit * float(np.linalg.norm(part.astype(np.float64))) for part, unit in parts]
        return {
            **{f"q{place}": part.tobytes().hex() for place, (part, _) in enumerate(parts)},
            **{f"w{place}": weight for place, weight in enumerate(weights)},
        }
    text, scale = _convert_to_text(query)
    return {"query": text, "scale": scale, "bytes": count_vector_bytes(vector_type, len(query))}


def _convert_to_text(query: NDArray[np.float32]) -> tuple[str, float]:
    """Convert a query to two characters per component, and the value of one unit of the numbers they encode."""
    scale = float(np.abs(query).max()) / QUERY_LEVELS
    numbers = np.rint(query.astype(np.float64) / scale).astype(np.int64) + QUERY_LEVELS + 1
    characters = np.empty(2 * len(query), dtype="<u2")
    characters[0::2] = numbers >> CHARACTER_BITS
    characters[1::2] = numbers & (2**CHARACTER_BITS - 1)
    return characters.tobytes().decode("utf-16-le"), scale


def score_by_sketch(query: NDArray[np.float32], matching: Mapping[str, Any]) -> dict[str, Any]:
    """Build a query that scores each matching document by how many signs it shares with a descriptor.

    Args:
        query: the descriptor, float32 (D,), finite.
        matching: any query of the engine; selects the documents.
    """
    sketch = np.zeros(count_sketch_bytes(len(query)), dtype=np.uint8)
    bits = np.packbits(np.signbit(query), bitorder="little")
    sketch[: len(bits)] = bits
    script = {"lang": "painless", "source": SKETCH_SOURCE, "params": {"query": sketch.tobytes().decode("latin-1")}}
    return {"script_score": {"query": matching, "script": script}}
