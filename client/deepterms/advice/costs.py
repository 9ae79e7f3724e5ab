"""Figures: what one node takes for each part of a search and of an ingest, measured or stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from deepterms.errors import InvalidInput

__all__ = ["REFERENCE", "Figures", "Observation", "fit_costs"]


@dataclass(frozen=True)
class Figures:
    """Costs of one node; all of them at `dimensions`.

    Attributes:
        machine: where they are from.
        dimensions: D of the descriptors with which they were measured.
        cores: of the cluster's data nodes together.
        fixed_ms: a search that finds next to nothing.
        clause_us: one more codeword in a query.
        posting_ns: one more posting of the query's codewords.
        float32_us: one more candidate re-ranked by a float32 vector.
        int8_us: one by an int8 vector.
        sketch_us: one by its sketch.
        pivot_ns: one more pivot with which a query is compared, here.
        float32_docs_per_second: added, finding of pivots included, merged and visible.
        int8_docs_per_second: with int8 vectors.
        posting_bytes: on the disk, with the term that is stored for it.
        document_bytes: beside its postings and its vector.
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


# OpenSearch 3.6.0, one node with 4 GB of heap on two cores of an AMD EPYC, one shard of one segment. Milliseconds are
# fitted by `fit_costs` to the p50 of 20 settings at 200,000 and a million documents, and give these again within a
# quarter; clauses could not be told from their postings there. Documents a second: 24,600 and 8,230 once 2,800 a second
# are compared with 16,384 pivots, one after the other. Bytes: of benchmarks/advice_error.py, on OpenSearch 3.8.0.
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
    """One kind of search, and the median time that it took.

    Attributes:
        clauses: codewords of the query.
        postings: that they have.
        float32: candidates re-ranked by float32 vectors.
        int8: candidates re-ranked by int8 vectors.
        ms: on this side of the wire, without the time to find pivots.
        sketch: candidates compared by their sketches.
    """

    clauses: float
    postings: float
    float32: float
    int8: float
    ms: float
    sketch: float = 0.0


def fit_costs(observations: Sequence[Observation]) -> dict[str, float]:
    """The costs that explain the times best, none of them negative (Lawson and Hanson, 1974), errors relative.

    Returns:
        ``fixed_ms``, ``clause_us``, ``posting_ns``, ``float32_us``, ``int8_us`` and ``sketch_us`` of `Figures`.

    Raises:
        InvalidInput: fewer observations than costs that occur in them.
    """
    rows = np.array(
        [[1, seen.clauses, seen.postings, seen.float32, seen.int8, seen.sketch] for seen in observations], dtype=float
    )
    if len(observations) < (unknown := int(rows.any(axis=0).sum())):
        raise InvalidInput(f"{len(observations)} kinds of search say too little; expected {unknown} or more")
    times = np.array([seen.ms for seen in observations])
    scales = np.maximum(rows.max(axis=0), 1)  # columns of like size
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
