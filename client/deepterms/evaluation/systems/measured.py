"""A collection and systems into what each of them finds, reads and keeps, in one pass over the documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.ranking import AVERAGES, Ranking, recalls
from deepterms.evaluation.systems.exact import ExactCosine

if TYPE_CHECKING:
    from deepterms.evaluation.judged_features import JudgedFeatures
    from deepterms.evaluation.systems.system import GraphSystem, ScoringSystem

__all__ = ["HITS", "Measured", "measure"]

HITS = 10  # for recall against exact search


@dataclass(frozen=True, eq=False)
class Measured:
    """One system at one setting on one collection.

    Attributes:
        system: its name.
        setting: what was varied.
        average_precisions: float64 (Q,), as the collection's protocol takes AP.
        recalls: float64 (Q,), share of the ten nearest by exact cosine among its first ten.
        touched_fraction: documents that get a score, divided by N, mean over the queries.
        postings_per_query: entries read: postings, codes or vectors; mean over the queries.
        afda_sum: Σ d_i², of an inverted index.
        afda_mean: Σ d_i² / V, of an inverted index.
        stored_bytes: of the index.
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
        """Mean over the queries."""
        return float(self.average_precisions.mean())


def measure(
    collection: JudgedFeatures,
    systems: Sequence[ScoringSystem],
    *,
    graphs: Sequence[GraphSystem] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Ask every query of every system. Exact cosine comes first in what is returned, whether it is named or not.

    Args:
        collection: its documents stream by once for the judged ones' scores and once for all; no system but a graph
            keeps them.
        systems: to be compared.
        graphs: systems that keep the documents in memory.
        on_progress: called with the documents done, and N.

    Raises:
        InvalidInput: the collection has no documents.
    """
    N = len(collection)
    if not N:
        raise InvalidInput(f"{collection.name} has no documents")
    scoring: list[ScoringSystem] = [ExactCosine(), *(one for one in systems if not isinstance(one, ExactCosine))]
    rankings = [[Ranking(collection, hits=HITS) for _ in system.settings] for system in scoring]
    for system in scoring:
        system.start(collection.queries)
    for start, block in collection.judged_blocks():
        for system, theirs in zip(scoring, rankings, strict=True):
            for ranking, scores in zip(theirs, system.scores(block), strict=True):
                ranking.note(start, scores)
    for start, block in collection.blocks():
        for system, theirs in zip(scoring, rankings, strict=True):
            for ranking, scores in zip(theirs, system.read(block), strict=True):
                ranking.count(start, scores)
        for graph in graphs:
            graph.add(block)
        on_progress(start + len(block), N)
    truth = rankings[0][0].hits()
    found = [
        measured
        for system, theirs in zip(scoring, rankings, strict=True)
        for measured in _scored(system, theirs, collection, truth)
    ]
    return found + [measured for graph in graphs for measured in _searched(graph, collection, truth)]


def _scored(
    system: ScoringSystem, rankings: Sequence[Ranking], collection: JudgedFeatures, truth: NDArray[np.int64]
) -> list[Measured]:
    selectivity = system.selectivity()
    N = len(collection)
    return [
        Measured(
            system=system.name,
            setting=setting,
            average_precisions=ranking.average_precisions(collection.averaging),
            recalls=recalls(ranking.hits(), truth),
            touched_fraction=ranking.touched_fraction(),
            postings_per_query=selectivity.postings_per_query if selectivity else ranking.touched_fraction() * N,
            stored_bytes=system.stored_bytes(N),
            afda_sum=selectivity.afda_sum if selectivity else None,
            afda_mean=selectivity.afda_mean if selectivity else None,
        )
        for setting, ranking in zip(system.settings, rankings, strict=True)
    ]


def _searched(graph: GraphSystem, collection: JudgedFeatures, truth: NDArray[np.int64]) -> list[Measured]:
    average = AVERAGES[collection.averaging]
    N = len(collection)
    measured = []
    for setting, answers in zip(graph.settings, graph.search(collection.queries), strict=True):
        # (hits,) of each query without junk; a rank is the place in what is left.
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
                recalls=recalls(first, truth),
                touched_fraction=min(1.0, answers.compared / N),
                postings_per_query=answers.compared,
                stored_bytes=graph.stored_bytes(N),
            )
        )
    return measured
