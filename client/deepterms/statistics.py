"""Statistics: how many postings an index holds, how evenly they lie in its lists, and what a query has to read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.encoder import Encoder
from deepterms.engines import Cluster
from deepterms.pages import hits_of
from deepterms.results import IndexStats, PostingList
from deepterms.terms import TermFrequencies, codeword

__all__ = ["DEFAULT_SAMPLE", "LARGEST_SAMPLE", "cluster_stats", "stats_of_counts"]

DEFAULT_SAMPLE = 1_000
LARGEST_SAMPLE = 10_000  # what an engine gives back at once
LONGEST_LISTS = 10
RANDOM: dict[str, Any] = {"seed": 2018, "field": "_seq_no"}  # the same documents each time, while nothing is written


def cluster_stats(cluster: Cluster, name: str, *, encoder: Encoder, documents: int, sample: int) -> IndexStats:
    """As `SurrogateIndex.stats`."""
    path = f"/{quote(name, safe='')}"
    answer = cluster.request("GET", f"{path}/_stats/store,segments,search")["_all"]
    body = {
        "query": {"function_score": {"random_score": RANDOM}},
        "size": sample,
        "_source": ["terms"],
        "track_total_hits": False,
    }
    hits = hits_of(cluster.request("POST", f"{path}/_search", body=body))
    drawn = [hit["_source"]["terms"] for hit in hits if "terms" in hit["_source"]]
    terms = TermFrequencies.from_terms(drawn, vocabulary_size=encoder.vocabulary_size)
    searches = answer["total"]["search"]
    return stats_of_counts(
        *counts_of(terms.matrix.indices, np.ones(terms.matrix.nnz, dtype=np.int64)),
        vocabulary_size=encoder.vocabulary_size,
        sampled=len(drawn),
        documents=documents,
        size=int(answer["primaries"]["store"]["size_in_bytes"]),
        segments=int(answer["primaries"]["segments"]["count"]),
        engine=str(cluster.engine),
        query_ms=searches["query_time_in_millis"] / searches["query_total"] if searches["query_total"] else None,
    )


def counts_of(codewords: NDArray[np.int32], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Different codewords, ascending, and the sum of the lengths given of each: not of all V, which may be many."""
    distinct, places = np.unique(codewords, return_inverse=True)
    return distinct, np.bincount(places, weights=lengths, minlength=len(distinct)).astype(np.int64)


def stats_of_counts(
    codewords: NDArray[np.int32],
    counts: NDArray[np.int64],
    *,
    vocabulary_size: int,
    sampled: int,
    documents: int,
    size: int,
    segments: int,
    engine: str,
    query_ms: float | None = None,
) -> IndexStats:
    """Statistics from the lengths that posting lists have in a sample; exact if the sample is all.

    Args:
        codewords: int32 (L,), ascending.
        counts: int64 (L,), of how many sampled documents each of them is; others are of none.
        vocabulary_size: V.
        sampled: documents in the sample, n.
        documents: in the index, N.
        size: bytes.
        segments: of the index.
        engine: its name and version.
        query_ms: as in `IndexStats`.
    """
    total = int(counts.sum())
    per_document = total / sampled if sampled else 0.0
    # The squares of the lists' lengths, summed. Of two different documents, n(n−1) ordered pairs share a codeword
    # Σ c(c−1) times, which says without bias how often two of all N do; each shares all with itself.
    pairs = float(counts @ (counts - 1)) / (sampled * (sampled - 1)) if sampled > 1 else 0.0
    squares = documents * (per_document + (documents - 1) * pairs)
    mean = documents * per_document / vocabulary_size
    longest = np.argsort(-counts, kind="stable")[:LONGEST_LISTS]
    return IndexStats(
        documents=documents,
        bytes=size,
        segments=segments,
        engine=engine,
        sampled=sampled,
        terms_per_document=per_document,
        longest_lists=tuple(
            PostingList(codeword(int(codewords[place])), int(counts[place]) / sampled)
            for place in longest
            if counts[place]
        ),
        list_variation=float(np.sqrt(max(squares / vocabulary_size - mean**2, 0.0))) / mean if mean else 0.0,
        postings_per_query=squares / documents if documents else 0.0,
        query_ms=query_ms,
    )
