"""Native comparison: a query turned into a body with which the engine compares all documents of its posting lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.engine import MAX_HITS
from deepterms.schema.layouts import CODEWORDS
from deepterms.schema.native_vectors import NATIVE, split_query
from deepterms.search.rerank import rescore
from deepterms.terms import TermFrequencies

__all__ = ["MAX_NATIVE_HITS", "count_rescored", "list_codewords", "native_body"]

# The engine compares signed bytes of the query with signed bytes of documents. The best of these, by cosine, are
# compared again with the whole query.
MIN_RESCORED = 50
RESCORED_PER_HIT = 2
MAX_NATIVE_HITS = MAX_HITS  # also the most that a knn query finds per shard


def count_rescored(k: int) -> int:
    """Count the documents per shard to compare with the whole query, for k hits."""
    return min(max(MIN_RESCORED, RESCORED_PER_HIT * k), MAX_NATIVE_HITS)


def list_codewords(terms: TermFrequencies, *, field: str = CODEWORDS) -> dict[str, Any]:
    """Build a clause that selects the documents that share a codeword with a query.

    Args:
        terms: term frequencies of the query, (1, V).
        field: the field of codewords, from `IndexState`.
    """
    (query,) = terms.to_terms()
    return {"terms": {field: list(query)}}


def native_body(
    query: NDArray[np.float32],
    *,
    among: Iterable[Mapping[str, Any]],
    k: int,
    found: int,
    exact: bool = True,
    source: Sequence[str] | bool = ("metadata",),
) -> dict[str, Any]:
    """Build the body of a search that compares all documents of a filter with a query.

    Documents without a vector come last.

    Args:
        query: the descriptor, float32 (D,), L2-normalised.
        among: clauses that select the documents.
        k: number of hits to return.
        found: documents per shard to find by comparing bytes, at least k and at most `MAX_NATIVE_HITS`.
        exact: compare these again with the whole query, so that a hit scores its cosine plus `COSINE_OFFSET`.
        source: stored fields to return.
    """
    clauses = list(among)
    ((coarse, _),) = split_query(query, parts=1)
    nearest = {
        "field": "vector",
        "query_vector": coarse.tobytes().hex(),
        "k": found,
        "num_candidates": found,
        "filter": clauses,
    }
    # Costs nothing while every document has a vector: the engine then replaces this clause by one that matches nothing.
    without = {"bool": {"filter": clauses, "must_not": [{"exists": {"field": "vector"}}]}}
    body: dict[str, Any] = {
        "size": k,
        "query": {"bool": {"should": [{"knn": nearest}, without]}},
        "_source": list(source) if not isinstance(source, bool) else source,
        "track_total_hits": False,
    }
    if exact:
        body["rescore"] = rescore(query, window=found, vector_type=NATIVE)
    return body
