"""The check of native functions: tries the script function that the last step of native comparison calls."""

from __future__ import annotations

import numpy as np

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.errors import RequestRejected, UnsupportedEngine
from deepterms.schema.native_vectors import NATIVE
from deepterms.schema.scripts import score_by_cosine

__all__ = ["check_functions"]


def check_functions(cluster: Cluster, concrete: str, *, dimensions: int) -> None:
    """Run a script that compares vectors on a new index.

    Raises:
        UnsupportedEngine: the server does not allow the function in scripts.
    """
    query = score_by_cosine(np.eye(1, dimensions, dtype=np.float32)[0], {"match_all": {}}, vector_type=NATIVE)
    try:
        cluster.request("POST", build_index_path(concrete, "/_search"), body={"size": 0, "query": query})
    except RequestRejected as error:
        # Other statuses have other causes, such as a shard that has not started or a user without search permission.
        if error.status == 400:
            raise UnsupportedEngine(
                f"{cluster.engine} does not allow scripts to compare vectors, so pass compare='script': {error}"
            ) from error
