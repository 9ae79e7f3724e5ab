"""Re-pivoting: an index's encoder with new pivots, sampled from the vectors that the index stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.scroll import scroll_pages
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import find_unusable_rows
from deepterms.encoders.pivots.sampling import SamplingMethod, count_rows_needed, sample_pivots
from deepterms.encoders.spec import encoder_from_spec
from deepterms.errors import InvalidInput
from deepterms.migration.generations import Generations, count_documents
from deepterms.schema.vectors import VectorType, decode_vector
from deepterms.storage.encoder_loading import load_encoder

__all__ = ["repivot_encoder", "sample_vectors"]

VECTORS_PER_PAGE = 1_000
SEED = 2018


def repivot_encoder(
    client: Any, name: str, count: int, *, method: SamplingMethod | Literal["auto"] = "auto", seed: int = SEED
) -> Encoder:
    """The encoder of an index with `count` new pivots, for `migrate`.

    If an unfinished migration of the index has as many and is otherwise like this, its encoder: so the same call
    finishes what was cut.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        count: how many pivots.
        method: how they are sampled, as for `sample_pivots`.
        seed: which vectors are drawn.

    Raises:
        InvalidInput: the index's encoder has no pivots, it stores no vectors, or too few.
        IndexNotFound: no such name.
        ClusterError: a shard did not answer.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    cluster = Cluster(client)
    state = Generations.of(cluster, name)
    spec, vector_type = state.meta.encoder, state.meta.find_vector_type()
    if "pivots" not in spec:
        raise InvalidInput(
            f"{name!r} has no pivots to replace; migrate it to some with encoder=PivotPermutation(pivots, …)"
        )
    if vector_type is None:
        raise InvalidInput(f"{name!r} stores no vectors, so none can become its pivots; index it anew")
    if spec["pivots"]["metric"] != "cosine":
        raise InvalidInput(
            f"the pivots of {name!r} are compared by {spec['pivots']['metric']}, and what it stores is normalised; "
            "sample new ones from the descriptors themselves, and migrate with encoder=PivotPermutation(pivots, …)"
        )
    for concrete in state.unfinished:
        other = state.metas[concrete].encoder
        if _less_pivots(other) == _less_pivots(spec) and other.get("pivots", {}).get("count") == count:
            return load_encoder(cluster, concrete, other)
    features = sample_vectors(
        cluster,
        state.live,
        count_rows_needed(count),
        dimensions=spec["pivots"]["dimensions"],
        vector_type=vector_type,
        seed=seed,
    )
    pivots = sample_pivots(features, count, seed=seed, method=method)
    return encoder_from_spec({**spec, "pivots": pivots.spec()}, pivots=pivots)


def sample_vectors(
    cluster: Cluster, concrete: str, count: int, *, dimensions: int, vector_type: VectorType, seed: int = SEED
) -> NDArray[np.float32]:
    """Stored vectors of `count` documents, drawn at random; of all, if there are not more.

    Args:
        cluster: where.
        concrete: the index, as far as it is visible to search.
        count: how many.
        dimensions: D; a vector of another length is passed over.
        vector_type: the type that they are stored in.
        seed: which ones.

    Returns:
        float32 (n, D), rows L2-normalised.
    """
    total = count_documents(cluster, concrete)
    margin = 4 * count**0.5  # four standard deviations of how many are drawn
    query: dict[str, Any] = {"exists": {"field": "vector"}}
    if total > count:
        # Each document has a score from 0 to 1; somewhat more of them than are wanted, so that there are enough.
        share = (count + margin) / total
        query = {
            "function_score": {
                "query": query,
                "random_score": {"seed": seed, "field": "_seq_no"},
                "boost_mode": "replace",
                "min_score": max(0.0, 1 - share),
            }
        }
    body = {"query": query, "_source": False, "docvalue_fields": ["vector"]}
    features = np.empty((min(int(count + 2 * margin), total), dimensions), dtype=np.float32)
    filled = 0
    for page in scroll_pages(cluster, concrete, body, size=VECTORS_PER_PAGE):
        for hit in page:
            vector = decode_vector(str(hit["fields"]["vector"][0]), vector_type, dimensions=dimensions)
            if filled < len(features) and vector.shape == (dimensions,) and not find_unusable_rows(vector[np.newaxis]):
                features[filled] = vector
                filled += 1
    if filled <= count:
        return features[:filled]
    # What is too much is left out at random: the last in the index are the newest.
    kept = np.sort(np.random.default_rng(seed).permutation(filled)[:count])
    return features[kept]


def _less_pivots(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "pivots"}
