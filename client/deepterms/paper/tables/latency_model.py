"""Fit a latency model to searches on one node and predict those of several, on this machine or on separate ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

from deepterms.advice.costs import Observation, fit_costs

__all__ = ["LatencyModel", "describe_shortfall", "fit_latency_model", "predict_latencies"]

DOCUMENTS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
MACHINES = (1, 4, 16, 64)
CORES = 16  # per machine in the predictions
MIN_SHARD = 50_000  # documents; merging the hits of smaller shards would cost more than they save


@dataclass(frozen=True)
class LatencyModel:
    """A fixed cost per search, plus the shards of the busiest core; cores run in parallel, the shards of one in turn.

    It ignores the network between machines, merging the hits of very many shards, and memory contention between cores.

    Attributes:
        fixed_ms: cost of a search that matches almost nothing.
        clause_us: cost of each codeword, per shard.
        posting_ns: cost of each posting.
        error: largest relative error on the observations it was fitted to.
    """

    fixed_ms: float
    clause_us: float
    posting_ns: float
    error: float = 0.0

    def __call__(self, *, shards: float, clauses: float, postings: float) -> float:
        """Predict milliseconds per search.

        Args:
            shards: on the core with the most shards.
            clauses: codewords in the query.
            postings: that the query reads per shard.
        """
        return self.fixed_ms + shards * (clauses * self.clause_us / 1e3 + postings * self.posting_ns / 1e6)


def fit_latency_model(observations: Sequence[Observation]) -> LatencyModel:
    """Fit the costs to searches on one node with one core.

    Args:
        observations: clauses and postings summed over all shards.

    Raises:
        InvalidInput: there are fewer than five observations.
    """
    costs = fit_costs(observations)
    model = LatencyModel(costs["fixed_ms"], costs["clause_us"], costs["posting_ns"])
    off = [abs(model(shards=1, clauses=seen.clauses, postings=seen.postings) / seen.ms - 1) for seen in observations]
    return LatencyModel(model.fixed_ms, model.clause_us, model.posting_ns, max(off))


def predict_latencies(
    model: LatencyModel, *, clauses: float, postings_per_document: float, bytes_per_document: float
) -> list[dict[str, Any]]:
    """Predict latencies on machines with `CORES` cores like the measured one and one shard per core.

    Args:
        model: of one core.
        clauses: codewords in the query.
        postings_per_document: that a query reads.
        bytes_per_document: in the index.

    Returns:
        Rows with ``documents``, ``machines``, ``cores_per_machine``, ``shards``, ``ms`` and ``bytes_per_machine``,
        which should fit in the page cache. Combinations with shards smaller than `MIN_SHARD` are skipped.
    """
    return [
        {
            "documents": documents,
            "machines": machines,
            "cores_per_machine": CORES,
            "shards": machines * CORES,
            "ms": model(
                shards=1,
                clauses=clauses,
                postings=postings_per_document * ceil(documents / (machines * CORES)),
            ),
            "bytes_per_machine": bytes_per_document * documents / machines,
        }
        for documents, machines in product(DOCUMENTS, MACHINES)
        if documents >= MIN_SHARD * machines * CORES
    ]


def describe_shortfall(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """Describe the multi-node row that exceeds the model most, among those where every node has its own core.

    Args:
        rows: of Table 2, as measured.

    Returns:
        One sentence, or none if no row exceeds the model.
    """
    slower = [
        row for row in rows if row["nodes"] > 1 and row["nodes_per_core"] == 1 and row["p50_ms"] > row["model_ms"]
    ]
    if not slower:
        return []
    worst = max(slower, key=lambda row: row["p50_ms"] / row["model_ms"])
    return [
        "With several nodes on separate cores, the model is optimistic: for "
        f"{worst['nodes']} nodes and {worst['shares']} shares it predicts {worst['model_ms']:.3g} ms, while the "
        f"measured p50 is {worst['p50_ms']:.3g} ms. Read the predictions for several machines as lower bounds."
    ]
