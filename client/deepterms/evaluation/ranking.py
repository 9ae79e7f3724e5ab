"""Turn blocks of scores into the ranks of relevant documents and the top hits, without storing whole rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepterms.evaluation.collections.judgements import Averaging
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.metrics import ap_from_ranks, trapezoid_ap_from_ranks

__all__ = ["AVERAGES", "NOT_FOUND", "Ranking", "compute_recalls"]

NOT_FOUND = -np.inf
"""The score of a document that a system does not return for a query."""

AVERAGES: Mapping[Averaging, Callable[..., float]] = {
    "precisions": ap_from_ranks,
    "trapezoids": trapezoid_ap_from_ranks,
}
"""Averaging → the function that computes AP from the ranks of relevant documents."""


class Ranking:
    """The exact ranks that one system gives to the relevant documents of each query.

    A document's rank is one more than the number of documents ahead of it, so two passes suffice: `note` records the
    scores of the relevant documents, then `count` counts the documents ahead of them. Ties go to the lower document
    number; junk is not ranked.

    Args:
        collection: queries and judgements.
        hits: number of top hits to keep for recall.
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
        """First pass, over the judged documents: record the scores of the relevant ones.

        Args:
            start: number of the block's first document.
            scores: (Q, n), NOT_FOUND where the system does not return a document.
        """
        for query, rows in enumerate(self._relevant):
            low, high = np.searchsorted(rows, [start, start + scores.shape[1]])
            self._scores[query][low:high] = scores[query, rows[low:high] - start]

    def count(self, start: int, scores: NDArray[np.floating]) -> None:
        """Second pass, over all documents in order: count the documents ahead. Same arguments as `note`."""
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
            # Reuse the recorded scores: libraries do not guarantee that the same product is rounded the same way twice,
            # and a relevant document must not be ranked ahead of itself.
            ranked[query, rows[low:high] - start] = self._scores[query][low:high]
            theirs = self._scores[query][:, np.newaxis]  # (R, 1)
            ahead = (ranked[query] > theirs) | ((ranked[query] == theirs) & (numbers < rows[:, np.newaxis]))
            self._ahead[query] += ahead.sum(axis=1)
        self._keep(ranked, numbers)

    def compute_average_precisions(self, averaging: Averaging) -> NDArray[np.float64]:
        """Compute the AP of each query: float64 (Q,)."""
        ranks = (
            np.sort(ahead[scores > NOT_FOUND]) + 1 for ahead, scores in zip(self._ahead, self._scores, strict=True)
        )
        return np.array(
            [AVERAGES[averaging](found, relevant=len(rows)) for found, rows in zip(ranks, self._relevant, strict=True)]
        )

    @property
    def hits(self) -> NDArray[np.int64]:
        """Numbers of the top documents: int64 (Q, hits), −1 where fewer were returned."""
        return self._best[1]

    @property
    def touched_fraction(self) -> float:
        """Share of the documents that were scored, averaged over the queries."""
        return float(self._touched.mean() / self._documents)

    def _keep(self, ranked: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
        values, rows = self._best
        k = values.shape[1]
        # Only queries for which a document beats the last hit kept change; in most blocks those are few.
        (queries,) = np.nonzero((ranked > values[:, -1:]).any(axis=1))
        theirs = np.concatenate([values[queries], ranked[queries]], axis=1)
        theirs_rows = np.concatenate([rows[queries], np.broadcast_to(numbers, ranked[queries].shape)], axis=1)
        # Earlier documents come first and the sort is stable, so ties go to the lower number.
        order = np.argsort(-theirs, axis=1, kind="stable")[:, :k]
        values[queries] = np.take_along_axis(theirs, order, axis=1)
        rows[queries] = np.where(values[queries] > NOT_FOUND, np.take_along_axis(theirs_rows, order, axis=1), -1)


def compute_recalls(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the share of true hits (Q, k) that are among the hits found (Q, k), per query; −1 marks an empty slot."""
    shares: Sequence[float] = [
        len(np.intersect1d(ours[ours >= 0], theirs[theirs >= 0])) / max(1, int((theirs >= 0).sum()))
        for ours, theirs in zip(found, true, strict=True)
    ]
    return np.array(shares)
