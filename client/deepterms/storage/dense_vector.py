"""The dense_vector of an index: Elasticsearch's own field for vectors, which re-ranks faster than a script can.

It is not searched (``index: false``) and not read back: the binary doc value ``vector`` stays what exports, migrations
and `get` read. The index's own pipeline fills it from that, whoever sends the document, so no producer knows of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepterms.cluster.cluster import Cluster, Engine
from deepterms.errors import InvalidInput, RequestRejected, UnsupportedEngine
from deepterms.schema.scripts import DENSE_VECTOR, score_by_cosine
from deepterms.schema.vectors import VectorType

__all__ = ["check_functions", "dense_vector_field", "require_dense_vector"]

# Of any dense_vector; 2,048 before Elasticsearch 8.11.
MAX_DIMENSIONS = 4_096
MAX_DIMENSIONS_BEFORE = 2_048
_SINCE = (8, 11)


def require_dense_vector(engine: Engine, *, dimensions: int, vector_type: VectorType | None) -> None:
    """Refuse an index with a dense_vector that could not be.

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
            f"a dense_vector of {engine} has at most {most:,} dimensions, and the vectors have {dimensions:,}; leave "
            "dense_vector out, and a script compares them"
        )


def dense_vector_field(dimensions: int) -> dict[str, Any]:
    """The field's mapping, for vectors (D,)."""
    return {"type": "dense_vector", "element_type": "float", "dims": dimensions, "index": False}


def check_functions(cluster: Cluster, concrete: str, *, dimensions: int) -> None:
    """Try a script that compares vectors on a new index.

    Raises:
        UnsupportedEngine: the server's scripts lack the function.
    """
    query = score_by_cosine(np.eye(1, dimensions, dtype=np.float32)[0], {"match_all": {}}, vector_type=DENSE_VECTOR)
    try:
        cluster.request("POST", f"/{concrete}/_search", body={"size": 0, "query": query})
    except RequestRejected as error:
        # Anything else says nothing of the function: a shard that is not up yet, or a user who may not search.
        if error.status == 400:
            raise UnsupportedEngine(
                f"{cluster.engine} does not let a script compare vectors, so dense_vector cannot be used: {error}"
            ) from error
