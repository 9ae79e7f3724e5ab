"""Rankings and relevance judgements into the numbers that papers report: AP, mAP, recall.

AP comes in two kinds. That of trec_eval is the mean of the precisions at the relevant documents. That of INRIA
Holidays, Oxford and Paris integrates the curve of precision against recall by trapezoids: at each relevant document it
takes the mean of the precisions just before and at its rank, and comes out a little lower. A paper that reports
Holidays means the second.

A run is {query_id: {doc_id: score}}, qrels are {query_id: {doc_id: relevance}}, relevant from 1 on. The queries of the
qrels count, all of them and no others: one without an answer in the run scores 0. Two documents of equal score are
ranked by id descending, as trec_eval does; a run with many ties should therefore be read with care.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deepterms.errors import InvalidInput, MissingExtra

__all__ = [
    "Qrels",
    "Run",
    "average_precision",
    "mean_average_precision",
    "precisions_of_ranks",
    "recall_at",
    "trapezoid_average_precision",
    "trapezoids_of_ranks",
    "without_junk",
    "without_self",
]

Run: TypeAlias = Mapping[str, Mapping[str, float]]
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]


def average_precision(run: Run, qrels: Qrels) -> dict[str, float]:
    """AP of every query: the mean, over its relevant documents, of the precision at the rank of each.

    A relevant document that the run does not rank counts as precision 0.

    Args:
        run: scores, higher is better. For a query that is itself in the collection, pass `without_self(run)`.
        qrels: judgements, with at least one relevant document a query.

    Returns:
        query id → AP in 0…1, in the order of the qrels.

    Raises:
        InvalidInput: no queries, or one without a relevant document.
        MissingExtra: ir-measures is not installed.
    """
    return _per_query(_measures().AP, run, qrels)


def trapezoid_average_precision(run: Run, qrels: Qrels) -> dict[str, float]:
    """AP of every query by trapezoids, as holidays_map.py of INRIA and compute_ap.cpp of Oxford take it.

    Args:
        run: scores, higher is better. Take out first what does not count: `without_self(run)` for INRIA Holidays,
            `without_junk` for Oxford and Paris.
        qrels: judgements, with at least one relevant document a query.

    Returns:
        query id → AP in 0…1, in the order of the qrels.

    Raises:
        InvalidInput: no queries, or one without a relevant document.
    """
    _refuse_unjudged(qrels)
    values = {}
    for query, judgements in qrels.items():
        ranking = run.get(query, {})
        order = sorted(ranking, key=lambda document: (ranking[document], document), reverse=True)
        relevant = {document for document, grade in judgements.items() if grade > 0}
        ranks = [rank for rank, document in enumerate(order, start=1) if document in relevant]
        values[query] = trapezoids_of_ranks(ranks, relevant=len(relevant))
    return values


def precisions_of_ranks(ranks: ArrayLike, *, relevant: int) -> float:
    """AP as of trec_eval, from the ranks of the relevant documents that were found.

    Args:
        ranks: int (R,), ascending, from 1.
        relevant: how many relevant documents there are, found or not; 1 at least.

    Returns:
        0…1.
    """
    found = np.asarray(ranks, dtype=np.float64)
    return float((np.arange(1, len(found) + 1) / found).sum() / relevant)


def trapezoids_of_ranks(ranks: ArrayLike, *, relevant: int) -> float:
    """AP by trapezoids, from the same. The precision before the first rank of all counts as 1."""
    found = np.asarray(ranks, dtype=np.float64)
    before = np.arange(len(found))  # relevant ones ahead of each
    precisions_before = np.where(found > 1, before / np.maximum(found - 1, 1), 1.0)
    return float(((precisions_before + (before + 1) / found) / 2).sum() / relevant)


def mean_average_precision(run: Run, qrels: Qrels) -> float:
    """Mean of `average_precision` over the queries of the qrels, 0…1; raises what it raises."""
    return _mean(average_precision(run, qrels))


def recall_at(run: Run, qrels: Qrels, k: int) -> float:
    """Mean, over the queries of the qrels, of the share of relevant documents among the first k.

    Args:
        run: scores, higher is better.
        qrels: judgements, with at least one relevant document a query.
        k: how many hits to look at, at least 1.

    Returns:
        0…1.

    Raises:
        InvalidInput: k is less than 1, no queries, or one without a relevant document.
        MissingExtra: ir-measures is not installed.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; expected at least 1")
    return _mean(_per_query(_measures().R @ k, run, qrels))


def without_self(run: Run) -> dict[str, dict[str, float]]:
    """The run with every query removed from its own ranking, which is the convention of INRIA Holidays."""
    return {
        query: {document: score for document, score in ranking.items() if document != query}
        for query, ranking in run.items()
    }


def without_junk(run: Run, junk: Mapping[str, Set[str]]) -> dict[str, dict[str, float]]:
    """The run with each query's junk removed from its ranking, which is the convention of Oxford and Paris."""
    return {
        query: {document: score for document, score in ranking.items() if document not in junk.get(query, frozenset())}
        for query, ranking in run.items()
    }


def _refuse_unjudged(qrels: Qrels) -> None:
    if not qrels:
        raise InvalidInput("qrels are empty; expected at least one query")
    unjudged = [query for query, judgements in qrels.items() if not any(grade > 0 for grade in judgements.values())]
    if unjudged:
        # No average precision is defined for these; leaving them out silently would change the mean.
        raise InvalidInput(f"qrels have no relevant document for {', '.join(unjudged[:5])}; leave these queries out")


def _per_query(measure: Any, run: Run, qrels: Qrels) -> dict[str, float]:
    _refuse_unjudged(qrels)
    values = dict.fromkeys(qrels, 0.0)
    # ir_measures wants dictionaries, and its compiled evaluator refuses integers for scores.
    rankings = {query: {d: float(score) for d, score in run[query].items()} for query in qrels if run.get(query)}
    judged = {query: dict(judgements) for query, judgements in qrels.items()}
    for metric in _measures().iter_calc([measure], judged, rankings):
        values[metric.query_id] = metric.value
    return values


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _measures() -> Any:
    try:
        import ir_measures
    except ModuleNotFoundError as error:
        raise MissingExtra("ir-measures", "evaluate") from error
    return ir_measures
