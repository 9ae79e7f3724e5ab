"""Model: from the searches of one node to those of several, on this machine and on machines of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

from deepterms.advice.costs import Observation, fit_costs

__all__ = ["LatencyModel", "fitted_model", "predictions", "shortfall"]

DOCUMENTS = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
MACHINES = (1, 4, 16, 64)
CORES = 16  # of each machine of the predictions
MIN_SHARD = 50_000  # documents; smaller ones would cost more to put together than they save


@dataclass(frozen=True)
class LatencyModel:
    """A search costs a fixed time, and its cores work through their shards one after the other, all at once.

    What it leaves out: the network between machines, answers of very many shards to put together, and cores that wait
    for the same memory.

    Attributes:
        fixed_ms: of a search that finds next to nothing.
        clause_us: one more codeword, of each shard.
        posting_ns: one more posting.
        error: the largest share by which it is off among what it was fitted to.
    """

    fixed_ms: float
    clause_us: float
    posting_ns: float
    error: float = 0.0

    def __call__(self, *, shards: float, clauses: float, postings: float) -> float:
        """Milliseconds.

        Args:
            shards: of the core that has most.
            clauses: of the query.
            postings: that the query reads in one shard.
        """
        return self.fixed_ms + shards * (clauses * self.clause_us / 1e3 + postings * self.posting_ns / 1e6)


def fitted_model(observations: Sequence[Observation]) -> LatencyModel:
    """The costs that explain the searches of one node on one core best.

    Args:
        observations: clauses and postings of all shards together.

    Raises:
        InvalidInput: fewer than five.
    """
    costs = fit_costs(observations)
    model = LatencyModel(costs["fixed_ms"], costs["clause_us"], costs["posting_ns"])
    off = [abs(model(shards=1, clauses=seen.clauses, postings=seen.postings) / seen.ms - 1) for seen in observations]
    return LatencyModel(model.fixed_ms, model.clause_us, model.posting_ns, max(off))


def predictions(
    model: LatencyModel, *, clauses: float, postings_per_document: float, bytes_per_document: float
) -> list[dict[str, Any]]:
    """What machines of `CORES` cores like the one measured take, with a shard for each core, if none is too small.

    Args:
        model: of one core.
        clauses: of the query.
        postings_per_document: that a query reads, of all documents.
        bytes_per_document: of the index.

    Returns:
        ``documents``, ``machines``, ``cores_per_machine``, ``shards``, ``ms``, and ``bytes_per_machine``, which its
        page cache should hold.
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


def shortfall(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """A sentence on the nodes with cores of their own that took longest beside what the model says, if any did.

    Args:
        rows: of Table 2, as measured.
    """
    slower = [
        row for row in rows if row["nodes"] > 1 and row["nodes_per_core"] == 1 and row["p50_ms"] > row["model_ms"]
    ]
    if not slower:
        return []
    worst = max(slower, key=lambda row: row["p50_ms"] / row["model_ms"])
    return [
        f"Of several nodes with a core each the model promises more than they keep: with {worst['nodes']} nodes and "
        f"{worst['shares']} shares {worst['model_ms']:.3g} ms, where {worst['p50_ms']:.3g} (p50) were measured. Read "
        "the predictions for several machines as the least that a search can take."
    ]
