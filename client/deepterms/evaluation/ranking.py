"""Scores that stream by into the ranks of relevant documents and the first hits: no ranking is ever held whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepterms.evaluation.collections.judgements import Averaging
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.metrics import precisions_of_ranks, trapezoids_of_ranks

__all__ = ["AVERAGES", "NOT_FOUND", "Ranking", "recalls"]

NOT_FOUND = -np.inf
"""The score of a document that a system does not return for a query."""

AVERAGES: Mapping[Averaging, Callable[..., float]] = {
    "precisions": precisions_of_ranks,
    "trapezoids": trapezoids_of_ranks,
}
"""How AP is taken from the ranks of relevant documents."""


class Ranking:
    """One system's ranking of a collection, query by query, exact to the last document.

    A relevant document's rank is one more than the documents that are ahead of it, so it is enough to know its score
    first, and to count then. Equal scores are ranked by the number of the document, junk is not ranked.

    Args:
        collection: of the queries.
        hits: how many of the first hits to keep, for recall.
    """

    def __init__(self, collection: JudgedFeatures, *, hits: int) -> None:
        Q = len(collection.queries)
        self._relevant = collection.relevant
        self._junk = collection.junk
        self._scores = [np.full(len(rows), NOT_FOUND) for rows in collection.relevant]
        self._ahead = [np.zeros(len(rows), dtype=np.int64) for rows in collection.relevant]
        self._best = (np.full((Q, hits), NOT_FOUND), np.full((Q, hits), -1, dtype=np.int64))
        self._touched: NDArray[np.int64] = np.zeros(Q, dtype=np.int64)
        self._documents = 0

    def note(self, start: int, scores: NDArray[np.floating]) -> None:
        """First, for every block of judged documents: keep the scores of the relevant ones.

        Args:
            start: number of the block's first document.
            scores: (Q, n), NOT_FOUND where a document is not returned.
        """
        for query, rows in enumerate(self._relevant):
            low, high = np.searchsorted(rows, [start, start + scores.shape[1]])
            self._scores[query][low:high] = scores[query, rows[low:high] - start]

    def count(self, start: int, scores: NDArray[np.floating]) -> None:
        """Then, for every block of all documents in order: count who is ahead. Takes what `note` takes."""
        n = scores.shape[1]
        numbers = np.arange(start, start + n)
        returned = scores > NOT_FOUND
        self._touched += returned.sum(axis=1)
        self._documents += n
        ranked = np.where(returned, scores, NOT_FOUND).astype(np.float64)
        for query, junk in enumerate(self._junk):
            low, high = np.searchsorted(junk, [start, start + n])
            ranked[query, junk[low:high] - start] = NOT_FOUND
        for query, rows in enumerate(self._relevant):
            low, high = np.searchsorted(rows, [start, start + n])
            # As it was noted: no library promises to round the same product alike twice, and a relevant document must
            # not come out ahead of itself.
            ranked[query, rows[low:high] - start] = self._scores[query][low:high]
            theirs = self._scores[query][:, np.newaxis]  # (R, 1)
            ahead = (ranked[query] > theirs) | ((ranked[query] == theirs) & (numbers < rows[:, np.newaxis]))
            self._ahead[query] += ahead.sum(axis=1)
        self._keep(ranked, numbers)

    def average_precisions(self, averaging: Averaging) -> NDArray[np.float64]:
        """AP, taken so: (Q,)."""
        ranks = (
            np.sort(ahead[scores > NOT_FOUND]) + 1 for ahead, scores in zip(self._ahead, self._scores, strict=True)
        )
        return np.array(
            [AVERAGES[averaging](found, relevant=len(rows)) for found, rows in zip(ranks, self._relevant, strict=True)]
        )

    def hits(self) -> NDArray[np.int64]:
        """Numbers of the first documents: (Q, hits), −1 where fewer are returned."""
        return self._best[1]

    def touched_fraction(self) -> float:
        """Share of the documents that get a score, mean over the queries."""
        return float(self._touched.mean() / self._documents)

    def _keep(self, ranked: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
        values, rows = self._best
        k = values.shape[1]
        # A later document has to be better than the last one kept; most blocks change few queries.
        (queries,) = np.nonzero((ranked > values[:, -1:]).any(axis=1))
        theirs = np.concatenate([values[queries], ranked[queries]], axis=1)
        theirs_rows = np.concatenate([rows[queries], np.broadcast_to(numbers, ranked[queries].shape)], axis=1)
        # Earlier documents stand first, and the sort is stable: ties go to the lower number.
        order = np.argsort(-theirs, axis=1, kind="stable")[:, :k]
        values[queries] = np.take_along_axis(theirs, order, axis=1)
        rows[queries] = np.where(values[queries] > NOT_FOUND, np.take_along_axis(theirs_rows, order, axis=1), -1)


def recalls(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the true hits (Q, k) among those found (Q, k), for each query; −1 is no hit."""
    shares: Sequence[float] = [
        len(np.intersect1d(ours[ours >= 0], theirs[theirs >= 0])) / max(1, int((theirs >= 0).sum()))
        for ours, theirs in zip(found, true, strict=True)
    ]
    return np.array(shares)
