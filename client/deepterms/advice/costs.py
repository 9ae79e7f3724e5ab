"""Costs: from timed searches to what one node spends on each part of a search and of ingestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepterms.errors import InvalidInput
from deepterms.tuning.figures import REFERENCE, Figures

__all__ = ["REFERENCE", "Figures", "Observation", "fit_costs"]


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
