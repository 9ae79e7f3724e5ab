"""Scripts: builds queries with Painless scripts that score candidates by exact cosine, or by sketch."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.schema.native_vectors import NATIVE, split_query
from deepterms.schema.sketches import count_sketch_bytes, quantise_for_sketches
from deepterms.schema.vectors import VectorType, count_vector_bytes, quantise_query

__all__ = ["COSINE_OFFSET", "NO_VECTOR", "ComparedBy", "score_by_cosine", "score_by_sketch"]

# The engines reject negative scores, so the script adds this to the cosine.
COSINE_OFFSET = 2.0
NO_VECTOR = -1.0  # the cosine assigned to documents without a vector

# The stored form by which documents are compared: a type of stored vectors, or Elasticsearch's own vector field.
ComparedBy = VectorType | Literal["native"]


# One script per type, the same for both engines. Documents without a vector come last, with a cosine of −1. So do
# documents with a vector of another length, or one that gives no cosine (NaN, or beyond ±1), which an index can contain
# if it was written to without its pipeline: a negative score or NaN would fail the whole shard, and other bytes give
# meaningless scores.
#
# The query is sent as base64 of its numbers, and decoded once per segment: both engines give the script of each segment
# a map of parameters of its own, which keeps the array. Reading the query from text again for each document, as earlier
# versions did, took as long as reading the document. Loops are kept simple: unrolling them by hand made them faster
# with one engine's Java and slower with the other's.
_SOURCE = """
if (doc['vector'].size() == 0) {{ return 1.0; }}
BytesRef stored = doc['vector'].value; byte[] bytes = stored.bytes; int at = stored.offset;
if (stored.length != params.bytes) {{ return 1.0; }}
{array}[] query = ({array}[]) params.get('decoded');
if (query == null) {{
  byte[] sent = Base64.getDecoder().decode((String) params.query); int n = (int) params.dimensions;
  query = new {array}[n];
  {decode}
  params.decoded = query;
}}
{add}
return score > 0.99 && score < 3.01 ? score : 1.0;
""".strip()
_FLOAT = (
    "Float.intBitsToFloat(({0}[{1}] & 255) | (({0}[{1} + 1] & 255) << 8) | (({0}[{1} + 2] & 255) << 16) | "
    "({0}[{1} + 3] << 24))"
)


def _shorten(source: str) -> str:
    """Remove the spaces that Painless does not need, a third of a source, as each search sends it."""
    return re.sub(r"\s*([^\w\s])\s*", r"\1", " ".join(source.split()))


_COSINE_SOURCES: Mapping[ComparedBy, str] = {
    # Little-endian float32.
    "float32": _SOURCE.format(
        array="float",
        decode=f"for (int i = 0; i < n; i++) {{ query[i] = {_FLOAT.format('sent', '4 * i')}; }}",
        add=f"""
double sum = 0; int n = query.length;
for (int i = 0; i < n; i++) {{ sum += query[i] * (double) {_FLOAT.format("bytes", "at")}; at += 4; }}
double score = sum + 2.0;
""".strip(),
    ),
    # A float32 scale, then one byte per component, sign and magnitude: the sum is an integer, so exact. Two components
    # of the query are sent in three bytes.
    "int8": _SOURCE.format(
        array="int",
        decode="""
for (int i = 0; i < n; i++) {
    int k = i / 2 * 3;
    query[i] = (i % 2 == 0 ? (sent[k] & 255) << 4 | (sent[k + 1] & 240) >> 4
      : (sent[k + 1] & 15) << 8 | sent[k + 2] & 255) - 2048;
  }
""".strip(),
        add=f"""
double unit = {_FLOAT.format("bytes", "at")}; at += 4;
long sum = 0; int n = query.length;
for (int i = 0; i < n; i++) {{ int level = bytes[at + i]; sum += query[i] * (level < 0 ? -128 - level : level); }}
double score = sum * params.scale * unit + 2.0;
""".strip(),
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
COSINE_SOURCES = {vector_type: _shorten(source) for vector_type, source in _COSINE_SOURCES.items()}

# For each four components, a table holds the score of each of the sixteen combinations of their signs: from that of
# positive signs alone, each negative sign takes the component's level. The query is sent in four bits per component.
# Documents without a sketch, or with one of another length, come last.
SKETCH_SOURCE = _shorten("""
if (doc['sketch'].size() == 0) { return 0; }
BytesRef stored = doc['sketch'].value; byte[] bytes = stored.bytes; int at = stored.offset;
int length = stored.length;
if (length != params.bytes) { return 0; }
int[] scores = (int[]) params.get('decoded');
if (scores == null) {
  byte[] sent = Base64.getDecoder().decode((String) params.query); scores = new int[32 * length];
  for (int i = 0; i < 8 * length; i++) {
    int level = (i % 2 == 0 ? sent[i / 2] & 15 : sent[i / 2] >> 4 & 15) - 8;
    int first = i / 4 * 16; int half = 1 << (i % 4);
    for (int j = first; j < first + half; j++) {
      int score = scores[j]; int positive = level > 0 ? level : 0;
      scores[j] = score + positive; scores[j + half] = score + positive - level;
    }
  }
  params.decoded = scores;
}
int sum = 1; int table = 0;
for (int i = 0; i < length; i++) {
  int own = bytes[at + i];
  sum += scores[table + (own & 15)] + scores[table + 16 + (own >> 4 & 15)];
  table += 32;
}
return sum;
""")


def score_by_cosine(
    query: NDArray[np.float32], matching: Mapping[str, Any], *, vector_type: ComparedBy
) -> dict[str, Any]:
    """Build a query that scores each matching document by its cosine plus `COSINE_OFFSET`.

    Args:
        query: the descriptor, float32 (D,), L2-normalised.
        matching: any query of the engine; selects the documents.
        vector_type: the type of the stored vectors, or ``native``.
    """
    script = {"source": COSINE_SOURCES[vector_type], "params": _parameters(query, vector_type)}
    return {"script_score": {"query": matching, "script": script}}


def _parameters(query: NDArray[np.float32], vector_type: ComparedBy) -> dict[str, Any]:
    if vector_type == NATIVE:
        parts = split_query(query)
        weights = [unit * float(np.linalg.norm(part.astype(np.float64))) for part, unit in parts]
        return {
            **{f"q{place}": part.tobytes().hex() for place, (part, _) in enumerate(parts)},
            **{f"w{place}": weight for place, weight in enumerate(weights)},
        }
    sent: dict[str, Any] = {"dimensions": len(query), "bytes": count_vector_bytes(vector_type, len(query))}
    if vector_type == "float32":
        return {"query": _encode(query.astype("<f4", copy=False)), **sent}
    levels, scale = quantise_query(query)
    return {"query": _encode(_pack_12_bits(levels)), "scale": scale, **sent}


def _pack_12_bits(levels: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Pack levels (D,) from −2,048 to 2,047 into three bytes for every two, high bits first."""
    pairs = np.zeros((len(levels) + 1) // 2 * 2, dtype=np.uint16)
    pairs[: len(levels)] = levels + 2_048
    first, second = pairs[0::2], pairs[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    return packed.astype(np.uint8)


def _encode(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def score_by_sketch(query: NDArray[np.float32], matching: Mapping[str, Any]) -> dict[str, Any]:
    """Build a query that scores each matching document by its signs and the values of a descriptor.

    Args:
        query: the descriptor, float32 (D,), finite and not all zero.
        matching: any query of the engine; selects the documents.

    Returns:
        A query with which a document scores what `score_sketch` computes.
    """
    levels = (quantise_for_sketches(query) + 8).astype(np.uint8)
    params = {"query": _encode(levels[0::2] | levels[1::2] << 4), "bytes": count_sketch_bytes(len(query))}
    return {"script_score": {"query": matching, "script": {"source": SKETCH_SOURCE, "params": params}}}
