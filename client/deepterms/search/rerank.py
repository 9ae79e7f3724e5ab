"""Exact re-ranking: candidates to cosines, by a script in the cluster or with descriptors held in the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import InvalidInput
from deepterms.schema.index_spec import DEFAULT_RERANK, check_rerank
from deepterms.schema.scripts import ComparedBy, score_by_cosine, score_by_sketch

__all__ = ["FeatureSource", "compute_cosines", "count_candidates", "rescore"]

_ALL: Mapping[str, Any] = {"match_all": {}}


class FeatureSource(Protocol):
    """Anything in the client that holds descriptors by id, such as a `FeatureStore`."""

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return descriptors, float32 (len(ids), D), in the order of ids; raise InvalidInput for an unknown id."""
        ...


def count_candidates(*, k: int, rerank: int | None, stores_vectors: bool, default: int = DEFAULT_RERANK) -> int:
    """Return the number of candidates to re-rank for k hits; 0 for no re-ranking.

    Args:
        k: number of hits.
        rerank: the option of the search; None for the default if there are vectors to re-rank with.
        stores_vectors: whether there are vectors to re-rank with.
        default: the index's default number of candidates.

    Raises:
        InvalidInput: k or rerank is out of range, or re-ranking is requested without vectors.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    if rerank is None:
        rerank = default if stores_vectors else 0
    check_rerank(rerank)
    if rerank and not stores_vectors:
        raise InvalidInput(
            "the index stores no vectors, so it cannot re-rank; pass rerank=0 or rerank_from=<a feature store>, or "
            "create the index with store_vectors=True"
        )
    return max(rerank, k) if rerank else 0


def rescore(
    query: NDArray[np.float32], *, window: int, vector_type: ComparedBy = "float32", kept: int | None = None
) -> list[dict[str, Any]]:
    """Build the ``rescore`` part of a search body.

    Args:
        query: the descriptor, float32 (D,), L2-normalised.
        window: candidates per shard to re-rank; those beyond it keep score 0.
        vector_type: type of the stored vectors, or ``native``.
        kept: candidates to compare exactly, the others by sketch only; None for all.

    Returns:
        A body with which a hit scores its cosine with the query plus `COSINE_OFFSET`.
    """
    exactly = score_by_cosine(query, _ALL, vector_type=vector_type)
    if kept is None or kept >= window:
        return [_step(window, exactly)]
    return [_step(window, score_by_sketch(query, _ALL)), _step(kept, exactly)]


def _step(window: int, scored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "window_size": window,
        "query": {"query_weight": 0, "rescore_query_weight": 1, "rescore_query": scored},
    }


def compute_cosines(query: NDArray[np.float32], source: FeatureSource, ids: Sequence[str]) -> NDArray[np.float64]:
    """Compute exact cosines with descriptors held in the client: float64 (len(ids),).

    Args:
        query: the descriptor, float32 (D,), L2-normalised.
        source: holds the descriptors of the candidates.
        ids: ids of the candidates.

    Raises:
        InvalidInput: the source lacks a candidate, or its descriptors have another length.
    """
    features = source.features_of(ids)
    if features.shape != (len(ids), len(query)):
        raise InvalidInput(
            f"rerank_from returned descriptors of shape {features.shape}; expected ({len(ids)}, {len(query)})"
        )
    products: NDArray[np.float64] = normalise_rows(features).astype(np.float64) @ query.astype(np.float64)
    return products
