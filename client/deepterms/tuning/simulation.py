"""Simulation: searches of an index that does not exist, in numpy, from descriptors to the recall of each setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.encoder import WideningEncoder
from deepterms.schema.sketches import count_survivors, quantise_for_sketches
from deepterms.schema.tuning import PROMISED_HITS
from deepterms.terms import TermFrequencies

__all__ = ["Collection", "Outcome", "simulate_searches"]

QUERIES_AT_ONCE = 32  # compared with all documents: with 16,384 of them 2 MB of cosines


@dataclass(frozen=True, eq=False)
class Collection:
    """Descriptors that stand for a collection, and queries that are not among them.

    Attributes:
        documents: float32 (m, D), rows L2-normalised.
        queries: float32 (Q, D), rows L2-normalised.
        nearest: int64 (Q, 10), the rows of the nearest documents by cosine; fewer columns if m is below 10.
        scale: how many documents of the collection each of the m stands for, 1 or more.
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    nearest: NDArray[np.int64]
    scale: float = 1.0

    @classmethod
    def build(cls, documents: NDArray[np.float32], queries: NDArray[np.float32], *, scale: float = 1.0) -> Collection:
        """Find the nearest documents of each query by comparing all.

        Args:
            documents: float32 (m, D), rows L2-normalised.
            queries: float32 (Q, D), rows L2-normalised.
            scale: how many documents of the collection each of the m stands for.
        """
        count = min(PROMISED_HITS, len(documents))
        found = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            cosines = queries[start : start + QUERIES_AT_ONCE] @ documents.T
            found.append(np.argpartition(-cosines, count - 1, axis=1)[:, :count])
        return cls(documents, queries, np.concatenate(found).astype(np.int64), scale)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one setting found.

    Attributes:
        words: codewords per query.
        candidates: documents compared by their vectors, the best by votes; None for all that share a codeword.
        shares: share of the nearest documents that each query found, float64 (Q,).
        postings: mean postings of the query's codewords, in the whole collection.
        listed: mean number of documents of the whole collection that share a codeword with the query.
    """

    words: int
    candidates: int | None
    shares: NDArray[np.float64]
    postings: float
    listed: float


def simulate_searches(
    collection: Collection,
    encoder: WideningEncoder,
    terms: TermFrequencies,
    *,
    words: Sequence[int],
    candidates: Sequence[int],
    sketched_from: int | None = None,
) -> Iterator[Outcome]:
    """Simulate searches with each number of codewords and each number of candidates, and with all listed.

    Args:
        collection: documents and queries.
        encoder: encodes the queries.
        terms: term frequencies of the documents, (m, V).
        words: numbers of codewords per query to try, each at most V.
        candidates: numbers of candidates to try, ascending.
        sketched_from: from this number of candidates on, they are compared by sketch first; None for never.
    """
    inverted = sparse.csr_array(terms.matrix.T)  # (V, m)
    agreement = None if sketched_from is None else _score_sketches(collection)
    for number in words:
        asked = encoder.encode_wider_queries(collection.queries, words_per_query=number)
        shares, postings, listed = [], 0, 0
        for row, (codewords, weights) in enumerate(asked.rows()):
            lists = inverted[codewords]
            each = lists.data * np.repeat(weights, np.diff(lists.indptr)).astype(np.float64)
            votes = np.bincount(lists.indices, weights=each, minlength=inverted.shape[1]).astype(np.int32)
            nearest = collection.nearest[row]
            chance = _rank_by_votes(votes, nearest, candidates, collection.scale)
            if agreement is not None and sketched_from is not None:
                kept = _rank_by_sketch(votes, agreement[row], nearest, candidates, collection.scale)
                for place, count in enumerate(candidates):
                    if count >= sketched_from:
                        chance[place] *= kept[place]
            shares.append([*chance.mean(axis=1), (votes[nearest] > 0).mean()])
            postings += lists.nnz
            listed += np.count_nonzero(votes)
        array = np.array(shares, dtype=np.float64)
        per_query = collection.scale / len(array)
        for place, depth in enumerate((*candidates, None)):
            yield Outcome(number, depth, array[:, place], postings * per_query, listed * per_query)


def _rank_by_votes(
    votes: NDArray[np.int32], nearest: NDArray[np.int64], candidates: Sequence[int], scale: float
) -> NDArray[np.float64]:
    """Compute the chance that each of the nearest documents is among so many candidates: (candidates, 10).

    Of the documents that have more votes, those that are nearest themselves count once, the others `scale` times.
    """
    own = votes[nearest]
    ordered = np.sort(votes)
    after = np.searchsorted(ordered, own, side="right")
    ahead, level = len(votes) - after, after - np.searchsorted(ordered, own, side="left")
    own_ahead = (own[np.newaxis] > own[:, np.newaxis]).sum(axis=1)
    own_level = (own[np.newaxis] == own[:, np.newaxis]).sum(axis=1)
    before = own_ahead + scale * (ahead - own_ahead)
    # Which of several equal scores come first is up to the engine, so each has the same chance.
    tied = own_level + scale * (level - own_level)
    depths = np.asarray(candidates, dtype=np.float64)[:, np.newaxis]
    chance: NDArray[np.float64] = np.clip((depths - before) / tied, 0, 1) * (own > 0)
    return chance


def _rank_by_sketch(
    votes: NDArray[np.int32],
    agreement: NDArray[np.float32],
    nearest: NDArray[np.int64],
    candidates: Sequence[int],
    scale: float,
) -> NDArray[np.float64]:
    """Find which of the nearest documents are among the best by sketch of so many candidates: 0 or 1, (candidates, 10).

    Args:
        votes: dot products with all documents, int32 (m,).
        agreement: signs shared with each document, up to a constant, float32 (m,).
        nearest: rows of the nearest documents, int64 (10,).
        candidates: numbers of candidates.
        scale: how many documents each of the m stands for.
    """
    deepest = min(len(votes), int(max(candidates) / scale) + len(nearest))
    order = np.argpartition(-votes, deepest - 1)[:deepest]
    order = order[np.argsort(-votes[order], kind="stable")]
    own = agreement[nearest]
    better = agreement[order][np.newaxis] > own[:, np.newaxis]  # (10, deepest)
    others = ~np.isin(order, nearest)
    counted = np.cumsum(better & others, axis=1)
    own_better = (own[np.newaxis] > own[:, np.newaxis]).sum(axis=1)
    survivors = count_survivors(PROMISED_HITS)
    kept = np.ones((len(candidates), len(nearest)))
    for place, count in enumerate(candidates):
        if count > survivors:
            last = min(deepest, max(1, round(count / scale))) - 1
            kept[place] = own_better + scale * counted[:, last] < survivors
    return kept


def _score_sketches(collection: Collection) -> NDArray[np.float32]:
    """Compute scores by sketch up to a factor and a constant of each query: float32 (Q, m)."""
    queries = np.stack([quantise_for_sketches(query) for query in collection.queries]).astype(np.float32)
    documents = np.where(np.signbit(collection.documents), np.float32(-1), np.float32(1))
    agreement: NDArray[np.float32] = queries @ documents.T
    return agreement
