"""Native vectors: descriptors as signed bytes in Elasticsearch's vector field, which the engine itself compares.

The field ``vector`` of such an index is a ``dense_vector`` of bytes without a graph (``flat``). A search is a ``knn``
query with the query's codewords as its filter, so the engine compares all documents in the posting lists that the query
names, with its vector instructions. An index compared by scripts instead finds candidates by counting shared codewords.

A document's components are scaled so that the largest is ±126, as in an int8 index, and the similarity is the cosine,
which ignores the scale. So both hold the same numbers, and reading them back gives the same vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.engine import Engine
from deepterms.encoders.encoder import Encoder, WideningEncoder
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.schema.layouts import Layout
from deepterms.schema.vectors import VectorType, quantise

__all__ = [
    "NATIVE",
    "Compare",
    "build_vector_field",
    "check_native",
    "encode_levels",
    "encode_native_vectors",
    "is_native_possible",
    "parse_compare",
    "split_query",
]

Compare = Literal["native", "script"]
NATIVE: Literal["native"] = "native"

# The first version that keeps vectors out of ``_source`` and its temporary copy, and returns them as doc values.
SINCE = (9, 2)
MAX_DIMENSIONS = 4_096

# A query is the sum of vectors of signed bytes, each finer than the one before by this factor.
QUERY_LEVELS = 127
FINER = 2 * QUERY_LEVELS
QUERY_PARTS = 3


def parse_compare(compare: object) -> Compare | None:
    """Parse the argument `compare`; None leaves the choice to `IndexSpec.choose`.

    Raises:
        InvalidInput: it is something else.
    """
    if compare is None or compare == "native" or compare == "script":
        return compare
    raise InvalidInput(f"compare is {compare!r}; expected 'native', 'script' or None")


def supports_native(engine: Engine) -> bool:
    """Whether an engine can compare vectors natively: Elasticsearch 9.2 or later."""
    return engine.name == "elasticsearch" and engine.version[:2] >= SINCE


def check_native(engine: Engine | None, encoder: Encoder, *, layout: Layout, vector_type: VectorType | None) -> None:
    """Check that an index can compare vectors natively.

    Args:
        engine: the engine; None if the index is in memory.
        encoder: encoder of the index.
        layout: layout of the index.
        vector_type: the type in which the index stores vectors.

    Raises:
        UnsupportedEngine: the engine is not Elasticsearch 9.2 or later.
        InvalidInput: the encoder, the layout or the vectors do not suit it.
    """
    if engine is not None and not supports_native(engine):
        first = ".".join(map(str, SINCE))
        raise UnsupportedEngine(f"compare='native' needs Elasticsearch {first} or later, not {engine}; omit compare")
    if not isinstance(encoder, WideningEncoder) or encoder.max_term_frequency != 1 or layout.max_term_frequency != 1:
        raise InvalidInput(
            f"compare='native' is for binary pivot codewords in the layout codewords; got {encoder} in the layout "
            f"{layout.name}. Omit compare, or use PivotPermutation(pivots)"
        )
    if vector_type != "int8":
        stored = "no vectors" if vector_type is None else f"{vector_type} vectors"
        raise InvalidInput(
            f"compare='native' stores descriptors as bytes, but the index would store {stored}; omit store_vectors or "
            "pass store_vectors='int8'"
        )
    if encoder.dimensions > MAX_DIMENSIONS:
        raise InvalidInput(
            f"compare='native' supports at most {MAX_DIMENSIONS:,} dimensions, but {encoder} has "
            f"{encoder.dimensions:,}; omit compare to compare them with a script"
        )


def is_native_possible(
    engine: Engine | None, encoder: Encoder, *, layout: Layout, vector_type: VectorType | None
) -> bool:
    """Whether `check_native` passes."""
    try:
        check_native(engine, encoder, layout=layout, vector_type=vector_type)
    except (InvalidInput, UnsupportedEngine):
        return False
    return True


def build_vector_field(dimensions: int) -> dict[str, Any]:
    """Build the mapping of the field for vectors (D,)."""
    return {
        "type": "dense_vector",
        "element_type": "byte",
        "dims": dimensions,
        "index": True,
        "similarity": "cosine",
        "index_options": {"type": "flat"},
    }


def encode_native_vectors(features: NDArray[np.float32]) -> list[str]:
    """Encode rows to hexadecimal text of D signed bytes, which the engine parses far faster than a list of numbers.

    Args:
        features: float32 (N, D), finite, without all-zero rows.
    """
    levels, _ = quantise(features)
    return [row.tobytes().hex() for row in levels.astype(np.int8)]


def encode_levels(levels: Sequence[int]) -> str:
    """Encode the numbers that the engine returns for a vector as they were sent."""
    return np.asarray(levels, dtype=np.int8).tobytes().hex()


def split_query(query: NDArray[np.float32], parts: int = QUERY_PARTS) -> list[tuple[NDArray[np.int8], float]]:
    """Split a query into vectors of signed bytes, each finer than the one before: the engine compares bytes with bytes.

    Args:
        query: float32 (D,), finite, with a component other than zero.
        parts: the number of vectors; three are as exact as float32.

    Returns:
        Vectors, int8 (D,), and their weights. Their weighted sum is the query.
    """
    unit = float(np.abs(query).max()) / QUERY_LEVELS
    rest = query.astype(np.float64) / unit
    split = []
    for _ in range(parts):
        levels = np.rint(rest)
        split.append((levels.astype(np.int8), unit))
        rest = (rest - levels) * FINER
        unit /= FINER
    return split
