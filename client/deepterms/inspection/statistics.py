"""Statistics: a sample of documents to posting-list lengths, their variation, and the postings read per query."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.engine import MAX_HITS
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.scroll import check_hits
from deepterms.encoders.encoder import AsymmetricEncoder, Encoder
from deepterms.encoders.inputs import find_unusable_rows
from deepterms.results import IndexStats, PostingList
from deepterms.schema.vectors import VectorType, decode_vector
from deepterms.terms import TermFrequencies, codeword

__all__ = ["DEFAULT_SAMPLE", "MAX_QUERIES", "MAX_SAMPLE", "estimate_stats", "measure_stats"]

DEFAULT_SAMPLE = 1_000
MAX_SAMPLE = MAX_HITS
LISTS_REPORTED = 10
MAX_QUERIES = 200  # vectors of documents that are encoded as queries
RANDOM: dict[str, Any] = {"seed": 2018, "field": "_seq_no"}  # draws the same documents while nothing is written


def measure_stats(
    cluster: Cluster, name: str, *, encoder: Encoder, documents: int, sample: int, vector_type: VectorType | None
) -> IndexStats:
    """Measure the statistics of an index in a cluster; see `SurrogateIndex.stats`.

    Args:
        cluster: the cluster that holds the index.
        name: the index or alias.
        encoder: encoder of the index.
        documents: number of documents in the index.
        sample: number of documents to draw.
        vector_type: type of the stored vectors, which are read if queries have other codewords than documents; None
            if there are none, or to save reading them.
    """
    path = build_index_path(name)
    answer = cluster.request("GET", f"{path}/_stats/store,segments,search")["_all"]
    body = {
        "query": {"function_score": {"random_score": RANDOM}},
        "size": sample,
        "_source": ["terms"],
        "track_total_hits": False,
    }
    hits = check_hits(cluster.request("POST", f"{path}/_search", body=body))
    stored = None
    if vector_type is not None and isinstance(encoder, AsymmetricEncoder):
        # The same random order, so these are the first documents of the sample.
        first = {**body, "size": min(sample, MAX_QUERIES), "_source": False, "docvalue_fields": ["vector"]}
        found = check_hits(cluster.request("POST", f"{path}/_search", body=first))
        kept = [hit["fields"]["vector"][0] for hit in found if "vector" in hit.get("fields", {})]
        decoded = [decode_vector(vector, vector_type, dimensions=encoder.dimensions) for vector in kept]
        usable = [vector for vector in decoded if vector.shape == (encoder.dimensions,) and _is_usable(vector)]
        stored = np.array(usable, dtype=np.float32).reshape(-1, encoder.dimensions)
    drawn = [hit["_source"]["terms"] for hit in hits if "terms" in hit["_source"]]
    terms = TermFrequencies.from_terms(drawn, vocabulary_size=encoder.vocabulary_size)
    searches = answer["total"]["search"]
    return estimate_stats(
        *sum_by_codeword(terms.matrix.indices, np.ones(terms.matrix.nnz, dtype=np.int64)),
        encoder=encoder,
        sampled=len(drawn),
        documents=documents,
        size=int(answer["primaries"]["store"]["size_in_bytes"]),
        segments=int(answer["primaries"]["segments"]["count"]),
        engine=str(cluster.engine),
        query_ms=searches["query_time_in_millis"] / searches["query_total"] if searches["query_total"] else None,
        vectors=stored,
    )


def _is_usable(vector: NDArray[np.float32]) -> bool:
    return not find_unusable_rows(vector[np.newaxis])


def sum_by_codeword(
    codewords: NDArray[np.int32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Sum lengths by codeword: the distinct codewords, ascending, and their sums. Not over all V, which may be huge."""
    distinct, places = np.unique(codewords, return_inverse=True)
    return distinct, np.bincount(places, weights=lengths, minlength=len(distinct)).astype(np.int64)


def estimate_stats(
    codewords: NDArray[np.int32],
    counts: NDArray[np.int64],
    *,
    encoder: Encoder,
    sampled: int,
    documents: int,
    size: int,
    segments: int,
    engine: str,
    query_ms: float | None = None,
    vectors: NDArray[np.float32] | None = None,
) -> IndexStats:
    """Estimate statistics from the posting-list lengths of a sample; exact if the sample holds all documents.

    Args:
        codewords: codewords in use, int32 (L,), ascending.
        counts: number of sampled documents that have each of `codewords`, int64 (L,).
        encoder: encoder of the index.
        sampled: number of documents in the sample, n.
        documents: number of documents in the index, N.
        size: size of the index in bytes.
        segments: number of segments of the index.
        engine: name and version of the engine.
        query_ms: as in `IndexStats`.
        vectors: vectors of some sampled documents, (m, D), for an encoder whose queries have other codewords than
            documents.
    """
    total = int(counts.sum())
    per_document = total / sampled if sampled else 0.0
    # Estimates the sum of squared list lengths without bias. The n(n−1) ordered pairs of different sampled documents
    # share a codeword Σ c(c−1) times; scaled to all N(N−1) pairs, plus each document, which shares all with itself.
    pairs = float(counts @ (counts - 1)) / (sampled * (sampled - 1)) if sampled > 1 else 0.0
    squares = documents * (per_document + (documents - 1) * pairs)
    mean = documents * per_document / encoder.vocabulary_size
    own, others = per_document, pairs
    if isinstance(encoder, AsymmetricEncoder) and per_document:
        own, others = min(per_document, encoder.words_per_query), pairs * encoder.words_per_query / per_document
        if vectors is not None and len(vectors) and sampled > 1:
            own, read = _measure_lists(encoder, vectors, codewords, counts)
            others = (read - own) / (sampled - 1)
    longest = np.argsort(-counts, kind="stable")[:LISTS_REPORTED]
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
        list_variation=float(np.sqrt(max(squares / encoder.vocabulary_size - mean**2, 0.0))) / mean if mean else 0.0,
        postings_per_query=own + (documents - 1) * others if documents else 0.0,
        query_ms=query_ms,
    )


def _measure_lists(
    encoder: Encoder, vectors: NDArray[np.float32], codewords: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[float, float]:
    """Measure the lists that queries read, with document vectors (m, D) as queries; lists as in `estimate_stats`.

    Returns:
        The mean number of codewords that a query shares with its own document, and the mean number of postings in all
        lists of a query.
    """
    asked, held = encoder.encode_queries(vectors).matrix, encoder.encode(vectors).matrix
    own = (asked > 0).multiply(held > 0).nnz
    places = np.searchsorted(codewords, asked.indices)
    there = np.take(codewords, places, mode="clip") == asked.indices
    return own / len(vectors), float(counts[places[there]].sum()) / len(vectors)
