"""Exact re-ranking: a script that computes the cosine of the query and a stored vector, or descriptors held here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.inputs import normalise_rows
from deepterms.errors import InvalidInput
from deepterms.schema.index_spec import DEFAULT_RERANK, check_rerank
from deepterms.schema.scripts import ComparedBy, score_by_cosine, score_by_sketch

__all__ = ["FeatureSource", "cosines", "rerank_window", "rescore"]

_ALL: Mapping[str, Any] = {"match_all": {}}


class FeatureSource(Protocol):
    """Whatever holds descriptors by id on this side, such as a `FeatureStore`."""

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """float32 (len(ids), D), in the order asked for; raises InvalidInput for an id that is not there."""
        ...


def rerank_window(*, k: int, rerank: int | None, stores_vectors: bool, usual: int = DEFAULT_RERANK) -> int:
    """How many candidates to re-rank for k hits; 0 for none.

    Args:
        k: hits wanted.
        rerank: as asked; None takes the usual number if there are vectors to re-rank by.
        stores_vectors: whether the index keeps descriptors.
        usual: how many candidates where none is asked for.

    Raises:
        InvalidInput: k or rerank is out of range, or there is nothing to re-rank by.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    if rerank is None:
        rerank = usual if stores_vectors else 0
    check_rerank(rerank)
    if rerank and not stores_vectors:
        raise InvalidInput(
            "the index stores no vectors, so it cannot re-rank; pass rerank=0, or rerank_from= a feature store, or "
            "create it with store_vectors=True"
        )
    return max(rerank, k) if rerank else 0


def rescore(
    query: NDArray[np.float32], *, window: int, vector_type: ComparedBy = "float32", kept: int | None = None
) -> list[dict[str, Any]]:
    """The ``rescore`` part of a search body.

    Args:
        query: float32 (D,), L2-normalised.
        window: how many candidates of each shard are re-ranked; those beyond it keep score 0.
        vector_type: the type that the index stores, or its dense_vector.
        kept: how many of them are compared exactly, the others by their sketches only; None for all.

    Returns:
        A body under which a hit scores its cosine with the query plus `COSINE_OFFSET`.
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


def cosines(query: NDArray[np.float32], source: FeatureSource, ids: Sequence[str]) -> NDArray[np.float64]:
    """Exact cosines with descriptors that are held here: float64 (len(ids),).

    Args:
        query: float32 (D,), L2-normalised.
        source: of the descriptors.
        ids: of candidates.

    Raises:
        InvalidInput: the source lacks one of them, or holds descriptors of another length.
    """
    features = source.features_of(ids)
    if features.shape != (len(ids), len(query)):
        raise InvalidInput(f"rerank_from gave descriptors {features.shape}; expected ({len(ids)}, {len(query)})")
    products: NDArray[np.float64] = normalise_rows(features).astype(np.float64) @ query.astype(np.float64)
    return products
