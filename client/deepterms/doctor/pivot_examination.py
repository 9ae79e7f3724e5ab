"""Pivot examination: from the indices in a cluster to findings on their pivots, both stored state and fitness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.scroll import check_hits
from deepterms.doctor.findings import Finding
from deepterms.doctor.pivot_findings import (
    MIN_PAIRS,
    judge_lists,
    judge_orphans,
    judge_pivots,
    judge_reach,
)
from deepterms.encoders.pivots.pivots import FAR_QUANTILE, Pivots, measure_nearest_cosines
from deepterms.encoders.spec import encoder_from_spec
from deepterms.errors import PivotsUnavailable
from deepterms.inspection.statistics import MAX_SAMPLE, RANDOM, measure_stats
from deepterms.schema.index_spec import IndexMeta, read_meta
from deepterms.schema.vectors import VectorType, decode_vector
from deepterms.storage.pivot_index import (
    find_missing_chunks,
    find_owner,
    name_pivot_index,
    read_pivot_index_meta,
    read_pivots,
)

__all__ = ["examine_pivots", "find_orphans"]

SAMPLED_VECTORS = 1_000
MIN_SAMPLE = 1_000


def find_orphans(indices: Mapping[str, Any], name: str | None) -> Iterator[Finding]:
    """Find pivot indices whose index does not exist or has other pivots.

    Args:
        indices: all indices of deepterms in the cluster, by name.
        name: examine only the pivots of indices behind this alias; None for all.
    """
    orphans = []
    for pivot_index in indices:
        owner = find_owner(pivot_index)
        if owner is not None and (name is None or owner.rpartition("-")[0].endswith(f"-{name}")):
            meta = read_meta(indices.get(owner)) or {}
            needed = meta.get("encoder", {}).get("pivots", {}).get("checksum")
            if needed is None or name_pivot_index(owner, needed) != pivot_index:
                orphans.append(pivot_index)
    if found := judge_orphans(orphans):
        yield found


def examine_pivots(cluster: Cluster, name: str, live: str, metas: Mapping[str, IndexMeta]) -> Iterator[Finding]:
    """Examine the pivots of an alias's indices; yields nothing if its encoder has none.

    Args:
        cluster: the cluster.
        name: the alias.
        live: the concrete index that it points to.
        metas: concrete index → its metadata.
    """
    for concrete, meta in metas.items():
        kept = meta.encoder.get("pivots")
        if kept and concrete != live and (why := _describe_gaps(cluster, concrete, kept)):
            advice = f"rolling back to this index would fail; delete it with `deepterms migrate {name} --drop-old`"
            yield Finding("yellow", name, why, advice)
    meta = metas[live]
    described = meta.encoder.get("pivots")
    if not described:
        return
    try:
        # From the cluster, not from the local cache: the next client that opens the index may have no cache.
        pivots = read_pivots(cluster, live, described)
    except PivotsUnavailable as error:
        yield judge_pivots(name, described, why=str(error).partition(". ")[0])
        return
    yield judge_pivots(name, described)
    count = cluster.count(live)
    if not count:
        return
    encoder = encoder_from_spec(meta.encoder, pivots=pivots)
    # Pairs of pivots occur as unevenly as descriptors fill space; single pivots should occur equally often.
    single = encoder.vocabulary_size == len(pivots)
    words = max(1, int(meta.encoder.get("top_k", 1)))
    # Large enough that sufficient pairs of sampled documents share a word, if lists are even.
    sample = int(np.clip((2 * MIN_PAIRS * len(pivots)) ** 0.5 / words + 2, MIN_SAMPLE, MAX_SAMPLE))
    stats = measure_stats(cluster, live, encoder=encoder, documents=count, sample=sample, vector_type=None)
    yield judge_lists(name, stats, pivots=len(pivots), single=single)
    vector_type = meta.find_vector_type()
    if vector_type is not None and (found := _examine_reach(cluster, name, live, pivots, vector_type)):
        yield found


def _describe_gaps(cluster: Cluster, concrete: str, described: Mapping[str, Any]) -> str:
    """Describe what the pivots of an index that is not live lack; empty if nothing."""
    try:
        missing = find_missing_chunks(cluster, concrete, described)
    except PivotsUnavailable as error:
        return str(error).partition(". ")[0]
    return f"the pivots of {concrete} are incomplete: {len(missing)} chunks are missing" if missing else ""


def _examine_reach(cluster: Cluster, name: str, live: str, pivots: Pivots, vector_type: VectorType) -> Finding | None:
    now = _sample_cosines(
        cluster,
        live,
        {"query": {"function_score": {"query": _WITH_VECTOR, "random_score": RANDOM}}},
        pivots,
        vector_type,
    )
    reach = read_pivot_index_meta(cluster, live, pivots.spec()).read_reach()
    if reach is not None:
        bound = reach.low
    else:
        first = {"query": _WITH_VECTOR, "sort": [{"_seq_no": "asc"}]}
        then = _sample_cosines(cluster, live, first, pivots, vector_type)
        if not len(then):
            return None
        bound = float(np.quantile(then, FAR_QUANTILE))
    if not len(now):
        return None
    return judge_reach(name, far=float((now < bound).mean()), bound=bound, pivots=len(pivots))


_WITH_VECTOR: Mapping[str, Any] = {"exists": {"field": "vector"}}


def _sample_cosines(
    cluster: Cluster, live: str, search: Mapping[str, Any], pivots: Pivots, vector_type: VectorType
) -> NDArray[np.float32]:
    """Measure the cosine of each found document's vector with its nearest pivot: float32 (n,)."""
    body = {**search, "size": SAMPLED_VECTORS, "_source": False, "docvalue_fields": ["vector"]}
    hits = check_hits(cluster.request("POST", f"/{live}/_search", body=body))
    stored = [hit["fields"]["vector"][0] for hit in hits]
    decoded = [decode_vector(vector, vector_type, dimensions=pivots.dimensions) for vector in stored]
    usable = [vector for vector in decoded if vector.shape == (pivots.dimensions,) and np.isfinite(vector).all()]
    return measure_nearest_cosines(np.array(usable, dtype=np.float32).reshape(-1, pivots.dimensions), pivots)
