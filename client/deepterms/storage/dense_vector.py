"""A try of the function by which a script compares a dense_vector: not every server allows it."""

from __future__ import annotations

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.errors import RequestRejected, UnsupportedEngine
from deepterms.schema.scripts import DENSE_VECTOR, score_by_cosine

__all__ = ["check_functions"]


def check_functions(cluster: Cluster, concrete: str, *, dimensions: int) -> None:
    """Try a script that compares vectors on a new index.

    Raises:
        UnsupportedEngine: the server's scripts lack the function.
    """
    query = score_by_cosine(np.eye(1, dimensions, dtype=np.float32)[0], {"match_all": {}}, vector_type=DENSE_VECTOR)
    try:
        cluster.request("POST", build_index_path(concrete, "/_search"), body={"size": 0, "query": query})
    except RequestRejected as error:
        # Anything else says nothing of the function: a shard that is not up yet, or a user who may not search.
        if error.status == 400:
            raise UnsupportedEngine(
                f"{cluster.engine} does not let a script compare vectors, so dense_vector cannot be used: {error}"
            ) from error
