"""Measure what each system finds, reads and stores, in one pass over a collection's documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.ranking import AVERAGES, Ranking, compute_recalls
from deepterms.evaluation.systems.exact import ExactCosine

if TYPE_CHECKING:
    from deepterms.evaluation.judged_features import JudgedFeatures
    from deepterms.evaluation.systems.system import GraphSystem, ScoringSystem

__all__ = ["HITS", "Measured", "measure"]

HITS = 10  # compared with exact search for R@10


@dataclass(frozen=True, eq=False)
class Measured:
    """One system at one setting on one collection.

    Attributes:
        system: its name.
        setting: of the parameter that is varied.
        average_precisions: float64 (Q,), AP as defined by the collection's protocol.
        recalls: float64 (Q,), share of the ten nearest documents by exact cosine among the first ten hits.
        touched_fraction: share of the N documents that are scored, averaged over the queries.
        postings_per_query: entries read (postings, codes or vectors), averaged over the queries.
        stored_bytes: size of the index.
        afda_sum: Σ d_i²; inverted indices only.
        afda_mean: Σ d_i² / V; inverted indices only.
    """

    system: str
    setting: str
    average_precisions: NDArray[np.float64]
    recalls: NDArray[np.float64]
    touched_fraction: float
    postings_per_query: float
    stored_bytes: int
    afda_sum: float | None = None
    afda_mean: float | None = None

    @property
    def mean_average_precision(self) -> float:
        """AP averaged over the queries (mAP)."""
        return float(self.average_precisions.mean())


def measure(
    collection: JudgedFeatures,
    systems: Sequence[ScoringSystem],
    *,
    graphs: Sequence[GraphSystem] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Run every query on every system.

    Args:
        collection: judged documents are streamed twice, distractors once; only graphs keep them in memory.
        systems: systems that score documents block by block.
        graphs: systems that hold all documents in memory.
        on_progress: called with the number of documents done, and N.

    Returns:
        One result per system and setting, in the given order; exact cosine always comes first, listed or not.

    Raises:
        InvalidInput: the collection has no documents.
    """
    N = len(collection)
    if not N:
        raise InvalidInput(f"{collection.name} has no documents; expected at least one")
    scoring: list[ScoringSystem] = [ExactCosine(), *(one for one in systems if not isinstance(one, ExactCosine))]
    rankings = [[Ranking(collection, hits=HITS) for _ in system.settings] for system in scoring]
    for system in scoring:
        system.start(collection.queries)
    for start, block in collection.judged_blocks():
        for system, theirs in zip(scoring, rankings, strict=True):
            for ranking, scores in zip(theirs, system.score(block), strict=True):
                ranking.note(start, scores)
    for start, block in collection.blocks():
        for system, theirs in zip(scoring, rankings, strict=True):
            for ranking, scores in zip(theirs, system.score_and_count(block), strict=True):
                ranking.count(start, scores)
        for graph in graphs:
            graph.add(block)
        on_progress(start + len(block), N)
    truth = rankings[0][0].hits
    found = [
        measured
        for system, theirs in zip(scoring, rankings, strict=True)
        for measured in _summarize(system, theirs, collection, truth)
    ]
    return found + [measured for graph in graphs for measured in _search_graph(graph, collection, truth)]


def _summarize(
    system: ScoringSystem, rankings: Sequence[Ranking], collection: JudgedFeatures, truth: NDArray[np.int64]
) -> list[Measured]:
    selectivity = system.measure_selectivity()
    N = len(collection)
    return [
        Measured(
            system=system.name,
            setting=setting,
            average_precisions=ranking.compute_average_precisions(collection.averaging),
            recalls=compute_recalls(ranking.hits, truth),
            touched_fraction=ranking.touched_fraction,
            postings_per_query=selectivity.postings_per_query if selectivity else ranking.touched_fraction * N,
            stored_bytes=system.estimate_bytes(N),
            afda_sum=selectivity.afda_sum if selectivity else None,
            afda_mean=selectivity.afda_mean if selectivity else None,
        )
        for setting, ranking in zip(system.settings, rankings, strict=True)
    ]


def _search_graph(graph: GraphSystem, collection: JudgedFeatures, truth: NDArray[np.int64]) -> list[Measured]:
    average = AVERAGES[collection.averaging]
    N = len(collection)
    measured = []
    for setting, answers in zip(graph.settings, graph.search(collection.queries), strict=True):
        # Hits without junk, (hits,) per query; ranks are positions in what remains.
        rankings = [
            numbers[(numbers >= 0) & ~np.isin(numbers, junk)]
            for numbers, junk in zip(answers.numbers, collection.junk, strict=True)
        ]
        precisions = [
            average(np.flatnonzero(np.isin(ranking, rows)) + 1, relevant=len(rows))
            for ranking, rows in zip(rankings, collection.relevant, strict=True)
        ]
        first = np.full((len(rankings), HITS), -1, dtype=np.int64)
        for query, ranking in enumerate(rankings):
            first[query, : min(HITS, len(ranking))] = ranking[:HITS]
        measured.append(
            Measured(
                system=graph.name,
                setting=setting,
                average_precisions=np.array(precisions),
                recalls=compute_recalls(first, truth),
                touched_fraction=min(1.0, answers.compared / N),
                postings_per_query=answers.compared,
                stored_bytes=graph.estimate_bytes(N),
            )
        )
    return measured
