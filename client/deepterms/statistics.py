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
        np.bincount(terms.matrix.indices, minlength=encoder.vocabulary_size),
        sampled=len(drawn),
        documents=documents,
        size=int(answer["primaries"]["store"]["size_in_bytes"]),
        segments=int(answer["primaries"]["segments"]["count"]),
        engine=str(cluster.engine),
        query_ms=searches["query_time_in_millis"] / searches["query_total"] if searches["query_total"] else None,
    )


def stats_of_counts(
    counts: NDArray[np.int64],
    *,
    sampled: int,
    documents: int,
    size: int,
    segments: int,
    engine: str,
    query_ms: float | None = None,
) -> IndexStats:
    """Statistics from the lengths that posting lists have in a sample; exact if the sample is all.

    Args:
        counts: int64 (V,), of how many sampled documents each codeword is.
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
    mean = documents * per_document / len(counts)
    longest = np.argsort(-counts, kind="stable")[:LONGEST_LISTS]
    return IndexStats(
        documents=documents,
        bytes=size,
        segments=segments,
        engine=engine,
        sampled=sampled,
        terms_per_document=per_document,
        longest_lists=tuple(
            PostingList(codeword(int(component)), int(counts[component]) / sampled)
            for component in longest
            if counts[component]
        ),
        list_variation=float(np.sqrt(max(squares / len(counts) - mean**2, 0.0))) / mean if mean else 0.0,
        postings_per_query=squares / documents if documents else 0.0,
        query_ms=query_ms,
    )
