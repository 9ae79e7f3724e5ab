"""Turn rankings and relevance judgements into the metrics that papers report: AP, mAP and recall.

There are two definitions of AP. In trec_eval, AP is the mean of the precisions at the ranks of the relevant documents.
INRIA Holidays, Oxford and Paris integrate the precision-recall curve with the trapezoidal rule: each relevant document
contributes the mean of the precision just before its rank and the precision at its rank, which gives a slightly lower
value. Papers that report Holidays use the second definition.

A run is {query_id: {doc_id: score}}; qrels are {query_id: {doc_id: relevance}}, where 1 or more means relevant. Metrics
average over exactly the queries in the qrels; a query that the run does not answer scores 0. Documents with equal
scores are ranked by id in descending order, as in trec_eval, so interpret runs with many ties with care.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deepterms.errors import InvalidInput
from deepterms.optional import require

__all__ = [
    "Qrels",
    "Run",
    "ap_from_ranks",
    "average_precision",
    "mean_average_precision",
    "recall_at",
    "trapezoid_ap_from_ranks",
    "trapezoid_average_precision",
    "without_junk",
    "without_self",
]

Run: TypeAlias = Mapping[str, Mapping[str, float]]
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]


def average_precision(run: Run, qrels: Qrels) -> dict[str, float]:
    """Compute each query's AP as in trec_eval: the mean precision at the ranks of its relevant documents.

    A relevant document missing from the run contributes a precision of 0.

    Args:
        run: scores; higher is better. If queries are themselves part of the collection, pass `without_self(run)`.
        qrels: judgements with at least one relevant document per query.

    Returns:
        query id → AP in 0…1, in the order of the qrels.

    Raises:
        InvalidInput: there are no queries, or a query has no relevant document.
        MissingExtra: ir-measures is not installed.
    """
    return _evaluate(_import_ir_measures().AP, run, qrels)


def trapezoid_average_precision(run: Run, qrels: Qrels) -> dict[str, float]:
    """Compute each query's AP with the trapezoidal rule, as INRIA's holidays_map.py and Oxford's compute_ap.cpp do.

    Args:
        run: scores; higher is better. First remove the documents that the protocol ignores: `without_self(run)` for
            INRIA Holidays, `without_junk` for Oxford and Paris.
        qrels: judgements with at least one relevant document per query.

    Returns:
        query id → AP in 0…1, in the order of the qrels.

    Raises:
        InvalidInput: there are no queries, or a query has no relevant document.
    """
    _reject_unjudged(qrels)
    values = {}
    for query, judgements in qrels.items():
        ranking = run.get(query, {})
        order = sorted(ranking, key=lambda document: (ranking[document], document), reverse=True)
        relevant = {document for document, grade in judgements.items() if grade > 0}
        ranks = [rank for rank, document in enumerate(order, start=1) if document in relevant]
        values[query] = trapezoid_ap_from_ranks(ranks, relevant=len(relevant))
    return values


def ap_from_ranks(ranks: ArrayLike, *, relevant: int) -> float:
    """Compute AP as in trec_eval from the ranks of the relevant documents that were found.

    Args:
        ranks: int (R,), ascending, starting at 1.
        relevant: number of relevant documents, found or not; at least 1.

    Returns:
        AP in 0…1.
    """
    found = np.asarray(ranks, dtype=np.float64)
    return float((np.arange(1, len(found) + 1) / found).sum() / relevant)


def trapezoid_ap_from_ranks(ranks: ArrayLike, *, relevant: int) -> float:
    """Compute AP with the trapezoidal rule from the same arguments; the precision before rank 1 is taken as 1."""
    found = np.asarray(ranks, dtype=np.float64)
    before = np.arange(len(found))  # relevant documents ranked ahead of each
    precisions_before = np.where(found > 1, before / np.maximum(found - 1, 1), 1.0)
    return float(((precisions_before + (before + 1) / found) / 2).sum() / relevant)


def mean_average_precision(run: Run, qrels: Qrels) -> float:
    """Average `average_precision` over the queries in the qrels, 0…1; raises the same errors."""
    return _mean(average_precision(run, qrels))


def recall_at(run: Run, qrels: Qrels, k: int) -> float:
    """Compute recall at k: the fraction of a query's relevant documents among its first k, averaged over the qrels.

    Args:
        run: scores; higher is better.
        qrels: judgements with at least one relevant document per query.
        k: number of top hits to count, at least 1.

    Returns:
        Recall in 0…1.

    Raises:
        InvalidInput: k is less than 1, there are no queries, or a query has no relevant document.
        MissingExtra: ir-measures is not installed.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    return _mean(_evaluate(_import_ir_measures().R @ k, run, qrels))


def without_self(run: Run) -> dict[str, dict[str, float]]:
    """Remove each query from its own ranking, as the INRIA Holidays protocol requires."""
    return {
        query: {document: score for document, score in ranking.items() if document != query}
        for query, ranking in run.items()
    }


def without_junk(run: Run, junk: Mapping[str, Set[str]]) -> dict[str, dict[str, float]]:
    """Remove each query's junk from its ranking, as the Oxford and Paris protocols require."""
    return {
        query: {document: score for document, score in ranking.items() if document not in junk.get(query, frozenset())}
        for query, ranking in run.items()
    }


def _reject_unjudged(qrels: Qrels) -> None:
    if not qrels:
        raise InvalidInput("qrels are empty; expected at least one query")
    unjudged = [query for query, judgements in qrels.items() if not any(grade > 0 for grade in judgements.values())]
    if unjudged:
        # AP is undefined for these queries, and dropping them silently would change the mean.
        raise InvalidInput(f"qrels have no relevant document for {', '.join(unjudged[:5])}; remove these queries")


def _evaluate(measure: Any, run: Run, qrels: Qrels) -> dict[str, float]:
    """Compute one ir_measures metric per query."""
    _reject_unjudged(qrels)
    values = dict.fromkeys(qrels, 0.0)
    # ir_measures requires plain dictionaries, and its compiled evaluator rejects integer scores.
    rankings = {query: {d: float(score) for d, score in run[query].items()} for query in qrels if run.get(query)}
    judged = {query: dict(judgements) for query, judgements in qrels.items()}
    for metric in _import_ir_measures().iter_calc([measure], judged, rankings):
        values[metric.query_id] = metric.value
    return values


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _import_ir_measures() -> Any:
    with require("ir-measures", "evaluate"):
        import ir_measures
    return ir_measures
