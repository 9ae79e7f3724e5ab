"""Rankings and relevance judgements into the numbers that papers report: AP, mAP, recall.

A run is {query_id: {doc_id: score}}, qrels are {query_id: {doc_id: relevance}}, relevant from 1 on. The queries of the
qrels count, all of them and no others: one without an answer in the run scores 0. Two documents of equal score are
ranked by id descending, as trec_eval does; a run with many ties should therefore be read with care.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from deepterms.errors import InvalidInput, MissingExtra

__all__ = ["Qrels", "Run", "average_precision", "mean_average_precision", "recall_at", "without_self"]

Run: TypeAlias = Mapping[str, Mapping[str, float]]
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]


def average_precision(run: Run, qrels: Qrels) -> dict[str, float]:
    """AP of every query: the mean, over its relevant documents, of the precision at the rank of each.

    A relevant document that the run does not rank counts as precision 0. INRIA's own holidays_map.py integrates the
    precision-recall curve by trapezoids instead, and comes out a little lower.

    Args:
        run: scores, higher is better. For a query that is itself in the collection, pass `without_self(run)`.
        qrels: judgements, with at least one relevant document a query.

    Returns:
        query id → AP in 0…1, in the order of the qrels.
    """
    return _per_query(_measures().AP, run, qrels)


def mean_average_precision(run: Run, qrels: Qrels) -> float:
    """Mean of `average_precision` over the queries of the qrels."""
    return _mean(average_precision(run, qrels))


def recall_at(run: Run, qrels: Qrels, k: int) -> float:
    """Mean, over the queries of the qrels, of the share of relevant documents among the first k.

    Args:
        run: scores, higher is better.
        qrels: judgements, with at least one relevant document a query.
        k: how many hits to look at, at least 1.
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


def _per_query(measure: Any, run: Run, qrels: Qrels) -> dict[str, float]:
    if not qrels:
        raise InvalidInput("qrels are empty; expected at least one query")
    unjudged = [query for query, judgements in qrels.items() if not any(grade > 0 for grade in judgements.values())]
    if unjudged:
        # No average precision is defined for these; leaving them out silently would change the mean.
        raise InvalidInput(f"qrels have no relevant document for {', '.join(unjudged[:5])}; leave these queries out")
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
