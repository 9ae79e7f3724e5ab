"""The theorem on real engines: they rank like Spearman's rho between the permutations, including ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.permutations import inverted_permutations, spearman_rho

DIMENSIONS = 24
DOCUMENTS = 60
RNG = np.random.default_rng(31)
# Small integers, so that components tie, and distances to pivots, which are also integers.
ROWS = RNG.choice([-3, -2, -1, 1, 2, 3], (DOCUMENTS, DIMENSIONS)).astype(np.float32)
ROWS[40:50] = ROWS[:10]  # equal documents have equal scores
QUERIES = np.concatenate([ROWS[:2], RNG.choice([-3, -2, 2, 3], (2, DIMENSIONS)).astype(np.float32)])
PIVOTS = RNG.integers(-3, 4, (30, DIMENSIONS)).astype(np.float32)


def ranked(rows: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the values that the named encoder ranks in descending order."""
    if name.startswith("pivots"):  # negative squared distances, so that the nearest pivot is the largest value
        distances: NDArray[np.float32] = ((rows[:, np.newaxis] - PIVOTS) ** 2).sum(axis=2)
        return -distances
    if name.startswith("crelu"):
        return np.concatenate([np.maximum(rows, 0), np.maximum(-rows, 0)], axis=1)
    return rows


def pivots(top_k: int, query_top_k: int) -> dt.PivotPermutation:
    return dt.PivotPermutation(
        dt.Pivots(PIVOTS, metric="l2"), top_k=top_k, query_top_k=query_top_k, weights="ranks", search="exact"
    )


# Encoder, K of documents, K of queries.
ENCODERS: dict[str, tuple[dt.Encoder, int, int]] = {
    "components": (dt.DeepPermutation(DIMENSIONS, top_k=9, crelu=False), 9, 9),
    "components-full": (dt.DeepPermutation(DIMENSIONS, top_k=DIMENSIONS, crelu=False), DIMENSIONS, DIMENSIONS),
    "crelu": (dt.DeepPermutation(DIMENSIONS, top_k=9), 9, 9),
    "crelu-full": (dt.DeepPermutation(DIMENSIONS, top_k=DIMENSIONS), DIMENSIONS, DIMENSIONS),
    "pivots": (pivots(9, 9), 9, 9),
    "pivots-asymmetric": (pivots(6, 15), 6, 15),
    "pivots-full": (pivots(30, 30), 30, 30),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_engines_rank_as_spearmans_rho(cluster: Any, unique_name: str, name: str) -> None:
    dt.deploy(cluster)
    encoder, top_k, query_top_k = ENCODERS[name]
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, store_vectors=False, shards=3, replicas=0)
    index.add([str(row) for row in range(DOCUMENTS)], ROWS)
    index.refresh()
    documents = inverted_permutations(ranked(ROWS, name), top_k=top_k)
    distances = spearman_rho(inverted_permutations(ranked(QUERIES, name), top_k=query_top_k), documents)
    for query, row in zip(QUERIES, distances, strict=True):
        found = index.search(query, k=DOCUMENTS, rerank=0)
        scores = np.zeros(DOCUMENTS)  # a document that is not found shares no codeword, so it is among the farthest
        scores[[int(hit.id) for hit in found]] = [hit.score for hit in found]
        assert len(np.unique(scores)) > 5
        assert ((scores[:, np.newaxis] > scores) == (row[:, np.newaxis] < row)).all()
        along = row[[int(hit.id) for hit in found]]
        assert (np.diff(along) >= 0).all()
