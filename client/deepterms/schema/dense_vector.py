"""The dense_vector of an index: Elasticsearch's vector field, which re-ranks faster than a script on binary values.

It is not indexed for search (``index: false``) and never read back: exports, migrations and `get` read the binary doc
value ``vector``. The index's own pipeline fills the field from that, so clients that send documents need not know it.
"""

from __future__ import annotations

from typing import Any

from deepterms.cluster.engine import Engine
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.schema.vectors import VectorType

__all__ = ["build_dense_vector_field", "check_dense_vector"]

# Elasticsearch's limits for any dense_vector, from and before version 8.11.
MAX_DIMENSIONS = 4_096
MAX_DIMENSIONS_BEFORE = 2_048
_SINCE = (8, 11)


def check_dense_vector(engine: Engine, *, dimensions: int, vector_type: VectorType | None) -> None:
    """Check that an engine can store the dense_vector of an index.

    Args:
        engine: the engine.
        dimensions: D.
        vector_type: the type in which the index stores vectors.

    Raises:
        UnsupportedEngine: the engine is OpenSearch.
        InvalidInput: there are too many dimensions, or vectors are not stored as float32.
    """
    if engine.name != "elasticsearch":
        raise UnsupportedEngine(f"{engine} has no dense_vector; omit dense_vector to compare vectors with a script")
    if vector_type != "float32":
        stored = "stores no vectors" if vector_type is None else f"stores {vector_type} vectors"
        raise InvalidInput(f"dense_vector requires float32 vectors, but the index {stored}; omit one of the options")
    most = MAX_DIMENSIONS if engine.version[:2] >= _SINCE else MAX_DIMENSIONS_BEFORE
    if dimensions > most:
        raise InvalidInput(
            f"a dense_vector in {engine} has at most {most:,} dimensions, but the vectors have {dimensions:,}; omit "
            "dense_vector to compare them with a script"
        )


def build_dense_vector_field(dimensions: int) -> dict[str, Any]:
    """Build the mapping of the field for vectors (D,)."""
    return {"type": "dense_vector", "element_type": "float", "dims": dimensions, "index": False}
