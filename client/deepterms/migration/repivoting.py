"""Re-pivoting: replaces the pivots of an index's encoder by new ones, or chooses its documents' words differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.scroll import scroll_pages
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.inputs import find_unusable_rows
from deepterms.encoders.pivots.permutation import PivotPermutation, Spill
from deepterms.encoders.pivots.sampling import SamplingMethod, count_rows_needed, sample_pivots
from deepterms.encoders.spec import encoder_from_spec
from deepterms.errors import InvalidInput
from deepterms.migration.generations import Generations, count_documents
from deepterms.schema.vectors import VectorType, decode_vector
from deepterms.storage.encoder_loading import load_encoder

__all__ = ["repivot_encoder", "respill_encoder", "sample_vectors"]

VECTORS_PER_PAGE = 1_000
SEED = 2018


def repivot_encoder(
    client: Any,
    name: str,
    count: int,
    *,
    method: SamplingMethod | Literal["auto"] = "auto",
    seed: int = SEED,
    spill: Spill | None = None,
) -> Encoder:
    """Return the encoder of an index with `count` new pivots, for `migrate`.

    If an unfinished migration of the index has the same number of pivots and an otherwise equal encoder, its encoder is
    returned, so that the same call resumes after an interruption.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        count: number of pivots.
        method: the sampling method, as for `sample_pivots`.
        seed: seed of the sample.
        spill: which pivots documents name, as for `PivotPermutation`; None keeps the current choice.

    Raises:
        InvalidInput: the index's encoder has no pivots, or no such spill; or the index stores no vectors or too few.
        IndexNotFound: there is no such name.
        ClusterError: a shard failed or timed out.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    cluster = Cluster(client)
    state = Generations.of(cluster, name)
    spec, vector_type = state.meta.encoder, state.meta.find_vector_type()
    if "pivots" not in spec:
        raise InvalidInput(
            f"{name!r} has no pivots to replace; to add some, migrate with encoder=PivotPermutation(pivots, …)"
        )
    if vector_type is None:
        raise InvalidInput(f"{name!r} stores no vectors to sample pivots from; index the documents again")
    if spec["pivots"]["metric"] != "cosine":
        raise InvalidInput(
            f"the pivots of {name!r} use the metric {spec['pivots']['metric']}, but its stored vectors are normalised; "
            "sample new pivots from the original descriptors, and migrate with encoder=PivotPermutation(pivots, …)"
        )
    if spill is not None:
        _check_spill(name, spec, spill)
        spec = {**spec, "spill": spill}
    for concrete in state.unfinished:
        other = state.metas[concrete].encoder
        if _remove_pivots(other) == _remove_pivots(spec) and other.get("pivots", {}).get("count") == count:
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


def respill_encoder(client: Any, name: str, spill: Spill) -> Encoder:
    """Return the encoder of an index with the same pivots and another spill, for `migrate`.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the alias.
        spill: which pivots documents name: ``nearest`` or ``soar``, as for `PivotPermutation`.

    Raises:
        InvalidInput: the index's encoder has no such spill, or its words cannot be chosen from the stored vectors.
        IndexNotFound: there is no such name.
        PivotsUnavailable: the pivots are missing in the cluster or damaged.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    cluster = Cluster(client)
    state = Generations.of(cluster, name)
    spec = state.meta.encoder
    _check_spill(name, spec, spill)
    encoder = load_encoder(cluster, state.live, spec)
    if not isinstance(encoder, PivotPermutation) or encoder.spill == spill:
        return encoder
    if state.meta.find_vector_type() is None:
        raise InvalidInput(f"{name!r} stores no vectors to choose other words for; index the documents again")
    if encoder.pivots.metric != "cosine":
        raise InvalidInput(
            f"the pivots of {name!r} use the metric {encoder.pivots.metric}, but its stored vectors are normalised; "
            "index the documents again, or, if the original descriptors have length 1, migrate with "
            f"encoder=dataclasses.replace(index.encoder, spill={spill!r})"
        )
    return replace(encoder, spill=spill)


def sample_vectors(
    cluster: Cluster, concrete: str, count: int, *, dimensions: int, vector_type: VectorType, seed: int = SEED
) -> NDArray[np.float32]:
    """Sample stored vectors of `count` documents at random; of all documents, if there are fewer.

    Args:
        cluster: the cluster.
        concrete: the index; only documents that are visible to search are sampled.
        count: number of documents.
        dimensions: D; vectors of another length are skipped.
        vector_type: the type in which the vectors are stored.
        seed: seed of the sample.

    Returns:
        float32 (n, D), rows L2-normalised.
    """
    total = count_documents(cluster, concrete)
    margin = 4 * count**0.5  # four standard deviations of the sample size
    query: dict[str, Any] = {"exists": {"field": "vector"}}
    if total > count:
        # Each document gets a random score from 0 to 1. The margin makes too small a sample unlikely.
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
            vector = decode_vector(hit["fields"]["vector"][0], vector_type, dimensions=dimensions)
            if filled < len(features) and vector.shape == (dimensions,) and not find_unusable_rows(vector[np.newaxis]):
                features[filled] = vector
                filled += 1
    if filled <= count:
        return features[:filled]
    # Surplus rows are dropped at random: dropping the last ones would drop the newest documents.
    kept = np.sort(np.random.default_rng(seed).permutation(filled)[:count])
    return features[kept]


def _check_spill(name: str, spec: Mapping[str, Any], spill: Spill) -> None:
    if spec["type"] != "pivot_permutation":
        raise InvalidInput(
            f"the encoder of {name!r} is {spec['type']!r}; only a pivot_permutation chooses which pivots documents name"
        )
    if spill == "soar" and spec["weights"] == "ranks":
        raise InvalidInput(
            f"the words of {name!r} have ranks, which are those of the nearest pivots, so it cannot spill"
        )


def _remove_pivots(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"spill": "nearest"} | {key: value for key, value in spec.items() if key != "pivots"}
