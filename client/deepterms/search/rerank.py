"""Exact re-ranking: a script that computes the cosine of the query and a stored vector, or descriptors held here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.schema.sketches import by_sketch
from deepterms.schema.vectors import VectorType, normalise_rows, stored_bytes

__all__ = [
    "COSINE_OFFSET",
    "DEFAULT_RERANK",
    "DENSE_VECTOR",
    "NO_VECTOR",
    "ComparedBy",
    "FeatureSource",
    "compared",
    "cosines",
    "rerank_window",
    "rescore",
    "usual_rerank",
]

# Candidates where neither the index nor its encoder says how many; for quality against time see the README's table.
DEFAULT_RERANK = 200

# The engines refuse negative scores; what the script returns is the cosine plus this.
COSINE_OFFSET = 2.0
NO_VECTOR = -1.0  # the cosine that stands for a document that stores none

# Elasticsearch's own field for vectors, where an index has it beside `vector`; and the way to compare by it.
DENSE_VECTOR: Literal["dense_vector"] = "dense_vector"
ComparedBy = VectorType | Literal["dense_vector"]

# A component of the query travels as two characters of 15 bits, so that all stay far below the surrogates (55,296).
CHARACTER_BITS = 15
QUERY_LEVELS = 2 ** (2 * CHARACTER_BITS - 1) - 1
LIST_DECIMALS = 9

# One script a type, the same for both engines. A document without a vector comes last, with the cosine −1. So does one
# whose vector has another length, or gives no cosine (NaN, or beyond ±1), as may stand in an index that was written to
# around its pipeline: a negative score or NaN would fail the whole shard, and other bytes give a score of nothing.
# The query travels as text: charAt is a primitive read, where each number of a JSON list is an object, and that made
# the whole search half as fast. 30 bits leave only the rounding of the engine's float32 scores. Elasticsearch's own
# field for this, an unindexed dense_vector, is faster: benchmarks/dense_vector.py measured 0.57 of the script's whole
# search with float and 0.45 with byte at 500 candidates of 2,048-d, 0.69 and 0.68 at 1,280-d (medians, on a busy
# machine, with another build of Painless than the vendor's). An index has it if asked: storage/dense_vector.py.
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
SOURCES: Mapping[ComparedBy, str] = {
    # Little-endian float32.
    "float32": _SOURCE.format(
        before="double sum = 0;",
        add=f"sum += component * (double) {_FLOAT}; at += 4;",
        cosine="sum * params.scale",
    ),
    # A float32 scale, then sign and magnitude a byte: the sum is a whole number, and exact.
    "int8": _SOURCE.format(
        before=f"long sum = 0; double unit = {_FLOAT}; at += 4;",
        add="int level = bytes[at]; at++; sum += (long) component * (level < 0 ? -128 - level : level);",
        cosine="sum * params.scale * unit",
    ),
    # The engine's own sum, in float32. A document whose vector has another length has none in this field.
    DENSE_VECTOR: """
if (doc['dense_vector'].size() == 0) { return 1.0; }
double score = dotProduct(params.query, 'dense_vector') + 2.0;
return score > 0.99 && score < 3.01 ? score : 1.0;
""".strip(),
}


_ALL: Mapping[str, Any] = {"match_all": {}}


class FeatureSource(Protocol):
    """Whatever holds descriptors by id on this side, such as a `FeatureStore`."""

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """float32 (len(ids), D), in the order asked for; raises InvalidInput for an id that is not there."""
        ...


def usual_rerank(encoder: object) -> int:
    """How many candidates an encoder's hits are re-ranked from, unless the index or the search says otherwise."""
    return int(getattr(encoder, "default_rerank", DEFAULT_RERANK))


def rerank_window(*, k: int, rerank: int | None, stores_vectors: bool, usual: int = DEFAULT_RERANK) -> int:
    """How many candidates to re-rank for k hits; 0 for none.

    Args:
        k: hits wanted.
        rerank: as asked; None takes the usual number if there are vectors to re-rank by.
        stores_vectors: whether the index keeps descriptors.
        usual: how many candidates where none is asked for.

    Raises:
        InvalidInput: k or rerank is out of range, or there is nothing to re-rank by.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    if rerank is None:
        rerank = usual if stores_vectors else 0
    if rerank < 0:
        raise InvalidInput(f"rerank is {rerank}; expected 0 (none) or how many candidates to re-rank")
    if rerank and not stores_vectors:
        raise InvalidInput(
            "the index stores no vectors, so it cannot re-rank; pass rerank=0, or rerank_from= a feature store, or "
            "create it with store_vectors=True"
        )
    return max(rerank, k) if rerank else 0


def rescore(
    query: NDArray[np.float32], *, window: int, vectors: ComparedBy = "float32", kept: int | None = None
) -> list[dict[str, Any]]:
    """The ``rescore`` part of a search body.

    Args:
        query: float32 (D,), L2-normalised.
        window: how many candidates of each shard are re-ranked; those beyond it keep score 0.
        vectors: the type that the index stores, or its dense_vector.
        kept: how many of them are compared exactly, the others by their sketches only; None for all.

    Returns:
        A body under which a hit scores its cosine with the query plus `COSINE_OFFSET`.
    """
    exactly = compared(query, _ALL, vectors=vectors)
    if kept is None or kept >= window:
        return [_step(window, exactly)]
    return [_step(window, by_sketch(query, _ALL)), _step(kept, exactly)]


def _step(window: int, scored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "window_size": window,
        "query": {"query_weight": 0, "rescore_query_weight": 1, "rescore_query": scored},
    }


def compared(query: NDArray[np.float32], matching: Mapping[str, Any], *, vectors: ComparedBy) -> dict[str, Any]:
    """A query under which each document that matches another scores its cosine plus `COSINE_OFFSET`.

    Args:
        query: float32 (D,), L2-normalised.
        matching: any query of the engine.
        vectors: the type that the index stores, or its dense_vector.
    """
    script = {"lang": "painless", "source": SOURCES[vectors], "params": _parameters(query, vectors)}
    return {"script_score": {"query": matching, "script": script}}


def _parameters(query: NDArray[np.float32], vectors: ComparedBy) -> dict[str, Any]:
    if vectors == DENSE_VECTOR:
        # The function takes nothing but a list. Nine decimals are as exact as float32 components of a unit vector.
        return {"query": np.round(query.astype(np.float64), LIST_DECIMALS).tolist()}
    text, scale = _as_text(query)
    return {"query": text, "scale": scale, "bytes": stored_bytes(vectors, len(query))}


def _as_text(query: NDArray[np.float32]) -> tuple[str, float]:
    """Two characters a component, and what one unit of their number stands for."""
    scale = float(np.abs(query).max()) / QUERY_LEVELS
    numbers = np.rint(query.astype(np.float64) / scale).astype(np.int64) + QUERY_LEVELS + 1
    characters = np.empty(2 * len(query), dtype="<u2")
    characters[0::2] = numbers >> CHARACTER_BITS
    characters[1::2] = numbers & (2**CHARACTER_BITS - 1)
    return characters.tobytes().decode("utf-16-le"), scale


def cosines(query: NDArray[np.float32], source: FeatureSource, ids: Sequence[str]) -> NDArray[np.float64]:
    """Exact cosines with descriptors that are held here: float64 (len(ids),).

    Args:
        query: float32 (D,), L2-normalised.
        source: of the descriptors.
        ids: of candidates.

    Raises:
        InvalidInput: the source lacks one of them, or holds descriptors of another length.
    """
    features = source.features_of(ids)
    if features.shape != (len(ids), len(query)):
        raise InvalidInput(f"rerank_from gave descriptors {features.shape}; expected ({len(ids)}, {len(query)})")
    products: NDArray[np.float64] = normalise_rows(features).astype(np.float64) @ query.astype(np.float64)
    return products
