"""Costs: from timed searches to what one node spends on each part of a search and of ingestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepterms.errors import InvalidInput

__all__ = ["REFERENCE", "Figures", "Observation", "fit_costs"]


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


@dataclass(frozen=True)
class Observation:
    """The median time of one kind of search.

    Attributes:
        clauses: codewords in the query.
        postings: postings of these codewords.
        float32: candidates re-ranked by float32 vectors.
        int8: candidates re-ranked by int8 vectors.
        ms: milliseconds, measured by the client, without the search for pivots.
        sketch: candidates compared by their sketches.
    """

    clauses: float
    postings: float
    float32: float
    int8: float
    ms: float
    sketch: float = 0.0


def fit_costs(observations: Sequence[Observation]) -> dict[str, float]:
    """Fit costs to observed times by non-negative least squares (Lawson and Hanson, 1974) of the relative errors.

    Returns:
        ``fixed_ms``, ``clause_us``, ``posting_ns``, ``float32_us``, ``int8_us`` and ``sketch_us`` of `Figures`.

    Raises:
        InvalidInput: there are fewer observations than costs to fit.
    """
    rows = np.array(
        [[1, seen.clauses, seen.postings, seen.float32, seen.int8, seen.sketch] for seen in observations], dtype=float
    )
    if len(observations) < (unknown := int(rows.any(axis=0).sum())):
        raise InvalidInput(
            f"{len(observations)} kinds of search are too few to fit {unknown} costs; expected at least {unknown}"
        )
    times = np.array([seen.ms for seen in observations])
    scales = np.maximum(rows.max(axis=0), 1)  # brings columns to similar magnitudes
    from scipy.optimize import nnls  # half a second that no other command has to wait for

    found, _ = nnls(rows / scales / times[:, np.newaxis], np.ones(len(times)))
    fixed, clause, posting, float32, int8, sketch = (found / scales).tolist()
    return {
        "fixed_ms": fixed,
        "clause_us": 1e3 * clause,
        "posting_ns": 1e6 * posting,
        "float32_us": 1e3 * float32,
        "int8_us": 1e3 * int8,
        "sketch_us": 1e3 * sketch,
    }
