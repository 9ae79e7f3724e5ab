"""The dense_vector of an index: Elasticsearch's own field for vectors, which re-ranks faster than a script.

It is not searched (``index: false``) and never read back: exports, migrations and `get` read the binary doc value
``vector``. The index's own pipeline fills it from that, whoever sends the document, so producers need not know it.
"""

from __future__ import annotations

from typing import Any

from deepterms.cluster.engine import Engine
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.schema.vectors import VectorType

__all__ = ["build_dense_vector_field", "check_dense_vector"]

# Of any dense_vector; 2,048 before Elasticsearch 8.11.
MAX_DIMENSIONS = 4_096
MAX_DIMENSIONS_BEFORE = 2_048
_SINCE = (8, 11)


def check_dense_vector(engine: Engine, *, dimensions: int, vector_type: VectorType | None) -> None:
    """Check that an engine can hold the dense_vector of an index.

    Args:
        engine: where.
        dimensions: D.
        vector_type: the type in which the index stores vectors.

    Raises:
        UnsupportedEngine: OpenSearch.
        InvalidInput: too many dimensions, or vectors that are not stored as float32.
    """
    if engine.name != "elasticsearch":
        raise UnsupportedEngine(f"{engine} has no dense_vector; leave dense_vector out, and a script compares vectors")
    if vector_type != "float32":
        stored = "stores no vectors" if vector_type is None else f"stores {vector_type} vectors"
        raise InvalidInput(f"dense_vector is for float32 vectors, and the index {stored}; leave one of the two out")
    most = MAX_DIMENSIONS if engine.version[:2] >= _SINCE else MAX_DIMENSIONS_BEFORE
    if dimensions > most:
        raise InvalidInput(
            f"a dense_vector of {engine} holds at most {most:,} dimensions, and the vectors have {dimensions:,}; leave "
            "dense_vector out, and a script compares them"
        )


def build_dense_vector_field(dimensions: int) -> dict[str, Any]:
    """The field's mapping, for vectors (D,)."""
    return {"type": "dense_vector", "element_type": "float", "dims": dimensions, "index": False}
