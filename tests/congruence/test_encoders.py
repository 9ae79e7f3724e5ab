"""MemoryIndex = OpenSearch = Elasticsearch for every encoder beyond the paper's, in each layout that supports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.encoders.pivots.pivots import Metric
from deepterms.errors import InvalidInput, RequestRejected
from tests.congruence.test_scores import (
    DIMENSIONS,
    add_to_both,
    assert_equal_answers,
    collection,
    layouts_of,
    names,
)

ROWS = collection(60, seed=11)
QUERIES = [*collection(6, seed=12)[:2], ROWS[0], ROWS[3], -ROWS[7]]


def pivots(metric: Metric) -> dt.Pivots:
    """Pivots with duplicates, so that distances tie; ROWS has duplicate rows as well."""
    sampled = dt.sample_pivots(ROWS, 40, metric=metric).features
    return dt.Pivots(np.concatenate([sampled, sampled[:9], ROWS[:5].astype("f2")]), metric=metric)


ENCODERS: dict[str, dt.Encoder] = {
    "binary-cosine": dt.PivotPermutation(pivots("cosine"), top_k=4, query_top_k=16),
    "binary-l2": dt.PivotPermutation(pivots("l2"), top_k=4, query_top_k=16),
    "ranks-cosine": dt.PivotPermutation(pivots("cosine"), top_k=8, query_top_k=24, weights="ranks"),
    "ranks-l2": dt.PivotPermutation(pivots("l2"), top_k=8, query_top_k=24, weights="ranks"),
    "projected": dt.PivotPermutation(pivots("cosine"), top_k=4, query_top_k=16, search="projected"),
    "pivot-pairs": dt.PivotPairs(pivots("cosine")),
    "pair-codewords": dt.PairCodewords(DIMENSIONS, rank_sum=16, query_rank_sum=14),
    "binary-permutation": dt.DeepPermutation(DIMENSIONS, top_k=60, binary=True),
    "all-components": dt.DeepPermutation(DIMENSIONS, top_k=80, crelu=False),
    "full-permutation": dt.DeepPermutation(DIMENSIONS, top_k=DIMENSIONS, crelu=False),
    "full-crelu": dt.DeepPermutation(DIMENSIONS, top_k=DIMENSIONS),
    "full-pivots": dt.PivotPermutation(pivots("l2"), top_k=54, query_top_k=54, weights="ranks"),
    "quantized": dt.ScalarQuantization(DIMENSIONS),
    "quantized-top-k": dt.ScalarQuantization(DIMENSIONS, factor=512, top_k=60),
    "quantized-threshold": dt.ScalarQuantization(DIMENSIONS, factor=3_000, threshold=0.05),
    "quantized-rotated": dt.ScalarQuantization(DIMENSIONS, factor=100, top_k=200, rotation_seed=1),
}
# Scores of complete permutations exceed 2^24, so float32 rounds them.
ROUNDED = {"full-permutation", "full-crelu"}
# Binary documents score the same in every layout, so test only the dedicated layout and one with frequencies.
BINARY_LAYOUTS = {"codewords", "rank_features"}


# More shards change only the order of ties, so one encoder of each kind is enough.
SPREAD = (
    "binary-cosine",
    "ranks-l2",
    "pivot-pairs",
    "pair-codewords",
    "binary-permutation",
    "quantized-rotated",
)


@pytest.mark.parametrize(
    ("encoder_name", "shards"), [*((name, 1) for name in ENCODERS), *((name, 3) for name in SPREAD)]
)
def test_every_score_equals_the_reference(cluster: Any, unique_name: str, encoder_name: str, shards: int) -> None:
    dt.deploy(cluster)
    encoder = ENCODERS[encoder_name]
    for layout in layouts_of(cluster):
        if encoder.max_term_frequency > layout.max_term_frequency:
            with pytest.raises(InvalidInput, match="or another layout"):
                dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, layout=layout.name)
            continue
        if encoder.max_term_frequency == 1 and layout.name not in BINARY_LAYOUTS:
            continue
        name = f"{unique_name}-{layout.name}"
        index = dt.SurrogateIndex.create(cluster, name, encoder=encoder, layout=layout.name, shards=shards, replicas=0)
        reference = dt.MemoryIndex(encoder, compare=index.compare)
        add_to_both(index, reference, ROWS)
        assert_equal_answers(index, reference, QUERIES, relative=1e-6 if encoder_name in ROUNDED else 0.0)
        assert index.verify(sample=20).ok
        found, expected = index.get("d007"), reference.get("d007")
        assert found is not None
        assert expected is not None
        assert found.terms == expected.terms


def test_scores_stay_equal_after_deletes_and_additions(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    encoder = ENCODERS["binary-cosine"]
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder=encoder, layout="codewords", store_vectors="int8", shards=3, replicas=0
    )
    reference = dt.MemoryIndex(encoder, store_vectors="int8", compare=index.compare)
    add_to_both(index, reference, ROWS)
    ids, metadata = names(len(ROWS))
    for target in (index, reference):
        target.delete(ids[::4])
        target.add(ids[::8], ROWS[::8], metadata=metadata[::8])
        target.add(ids[1::9], collection(60, seed=9)[1::9], metadata=metadata[1::9])
        target.refresh()
    assert_equal_answers(index, reference, QUERIES, relative=0.0)


def test_a_raw_vector_needs_an_encoder_in_the_engine(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    for name, layout in (
        ("binary-cosine", "codewords"),
        ("pair-codewords", "codewords"),
        ("quantized", "rank_features"),
    ):
        index = f"{unique_name}-{name}"
        dt.SurrogateIndex.create(cluster, index, encoder=ENCODERS[name], layout=layout, replicas=0)
        with pytest.raises(RequestRejected, match=r"\[check-terms\] field \[terms\] is missing"):
            Cluster(cluster).request("PUT", f"/{index}/_doc/raw", body={"vector": [1.0] * DIMENSIONS})
