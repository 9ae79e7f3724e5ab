"""Figures: what one node spends on each part of a search, and what a search with given settings therefore costs."""

from __future__ import annotations

from dataclasses import dataclass

from deepterms.encoders.pivots.nearest import MAX_EXACT

__all__ = ["REFERENCE", "Figures", "predict_find_ms", "predict_search_ms"]


@dataclass(frozen=True)
class Figures:
    """Costs of one node, for descriptors of `dimensions`.

    Attributes:
        machine: the origin of the figures.
        dimensions: D of the descriptors used for the measurement.
        cores: total number of cores of the cluster's data nodes.
        fixed_ms: milliseconds of a search with next to no postings.
        clause_us: microseconds per codeword in a query.
        posting_ns: nanoseconds per posting of the query's codewords.
        float32_us: microseconds per candidate re-ranked by a float32 vector.
        int8_us: microseconds per candidate re-ranked by an int8 vector.
        sketch_us: microseconds per candidate compared by its sketch, that is, its sign bits (binary quantization).
        pivot_ns: nanoseconds per pivot that the client compares with a query.
        float32_docs_per_second: ingestion rate with float32 vectors, including the search for pivots, merges and
            refresh.
        int8_docs_per_second: the same with int8 vectors.
        posting_bytes: disk space per posting, including its stored term.
        document_bytes: disk space per document, without postings and vector.
    """

    machine: str
    dimensions: int
    cores: int
    fixed_ms: float
    clause_us: float
    posting_ns: float
    float32_us: float
    int8_us: float
    sketch_us: float
    pivot_ns: float
    float32_docs_per_second: float
    int8_docs_per_second: float
    posting_bytes: float
    document_bytes: float


# OpenSearch 3.6.0, one node with 4 GB of heap on two cores of an AMD EPYC, one shard of one segment. `fit_costs` fitted
# the times to the p50 of 20 settings at 200,000 and a million documents, and they reproduce these within a quarter; the
# cost of clauses could not be separated from that of their postings. Documents per second: 24,600 (int8) and 8,230
# (float32) indexed, combined with 2,800 per second compared with 16,384 pivots, one step after the other. Bytes:
# benchmarks/advice_error.py on OpenSearch 3.8.0.
REFERENCE = Figures(
    machine="stored figures: OpenSearch 3.6.0 on two cores of an AMD EPYC, up to 1,000,000 documents",
    dimensions=1_280,
    cores=2,
    fixed_ms=0.81,
    clause_us=0.0,
    posting_ns=144.0,
    float32_us=3.03,
    int8_us=1.65,
    sketch_us=0.62,
    pivot_ns=153.0,
    float32_docs_per_second=2_090,
    int8_docs_per_second=2_510,
    posting_bytes=4.3,
    document_bytes=26.5,
)

# Part of the cost of comparing a candidate that does not depend on the length of its vector.
CANDIDATE_BASE_US = 0.3
# Nanoseconds per posting of codewords that only list documents, as a filter that does not score.
LISTED_POSTING_NS = 25.0
# Microseconds per document of 1,280 dimensions that Elasticsearch compares by itself (benchmarks/native.py).
NATIVE_US = 0.3


def predict_find_ms(pivots: int, dimensions: int, figures: Figures) -> float:
    """Predict the milliseconds in which a client finds the pivots of a query.

    By projected codes, 80 comparisons take as long as an exact one, plus a fixed part (benchmarks/pivot_assignment.py).
    """
    compared = pivots if pivots <= MAX_EXACT else MAX_EXACT + pivots / 80
    return compared * dimensions / figures.dimensions * figures.pivot_ns / 1e6


def predict_search_ms(
    figures: Figures,
    *,
    dimensions: int,
    words: float = 0,
    postings: float = 0,
    scored: bool = True,
    vectors: float = 0,
    sketches: float = 0,
    int8: bool = False,
    native: bool = False,
) -> float:
    """Predict the milliseconds of a search in a cluster, without finding the query's pivots.

    Args:
        figures: costs of the node.
        dimensions: D.
        words: codewords of the query.
        postings: postings of these codewords.
        scored: whether codewords are scored, rather than a filter.
        vectors: documents compared by their vectors.
        sketches: documents compared by their sketches.
        int8: whether vectors are stored as int8.
        native: whether the engine compares them, rather than a script.
    """
    scale = dimensions / figures.dimensions
    vector_us = NATIVE_US if native else figures.int8_us if int8 else figures.float32_us
    posting_ns = figures.posting_ns if scored else LISTED_POSTING_NS
    compared_us = vectors * _scale_us(vector_us, scale) + sketches * _scale_us(figures.sketch_us, scale)
    return figures.fixed_ms + (words * figures.clause_us + postings * posting_ns / 1e3 + compared_us) / 1e3


def _scale_us(microseconds: float, scale: float) -> float:
    base = min(CANDIDATE_BASE_US, microseconds)
    return base + (microseconds - base) * scale
