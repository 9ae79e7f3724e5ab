"""Candidates: the scores of segments for one query turned into sortable candidates, best first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.inputs import normalise_rows
from deepterms.memory.filters import Predicate
from deepterms.memory.segments import Segment
from deepterms.schema.native_vectors import split_query
from deepterms.schema.scripts import NO_VECTOR
from deepterms.schema.sketches import quantise_for_sketches, score_sketch
from deepterms.search.rerank import FeatureSource, compute_cosines

__all__ = [
    "Candidate",
    "find_accepted",
    "find_best",
    "list_candidates",
    "rank_by_bytes",
    "rank_by_cosine",
    "rank_by_sketch",
    "sort_candidates",
]

Candidate = tuple[float, str, Segment, int]  # (minus the score, id, segment, row): sorts best first, equal scores by id


def find_accepted(segment: Segment, accepts: Predicate) -> NDArray[np.bool_]:
    """Find the live documents that match a filter: bool (n,)."""
    return np.fromiter(
        (
            bool(live) and accepts(identifier, metadata)
            for live, identifier, metadata in zip(segment.live, segment.ids, segment.metadata, strict=True)
        ),
        dtype=np.bool_,
        count=len(segment.ids),
    )


def find_best(segment: Segment, scores: NDArray[np.int64], count: int) -> list[Candidate]:
    """Find the `count` documents with the highest non-zero scores, and all that tie with the last of them."""
    (rows,) = np.nonzero(scores)
    if len(rows) > count:
        least = np.partition(scores[rows], len(rows) - count)[len(rows) - count]
        rows = rows[scores[rows] >= least]
    return [(-float(scores[row]), segment.ids[row], segment, row) for row in rows.tolist()]


def list_candidates(segment: Segment, kept: NDArray[np.bool_]) -> list[Candidate]:
    """List the documents of a mask, bool (n,), as candidates without a score."""
    return [(0.0, segment.ids[row], segment, row) for row in np.flatnonzero(kept).tolist()]


def rank_by_sketch(candidates: list[Candidate], query: NDArray[np.float32], count: int) -> list[Candidate]:
    """Return the best `count` candidates by the signs of their vectors and the values of a query (D,)."""
    if len(candidates) <= count:
        return candidates
    levels = quantise_for_sketches(query)
    sketched = [
        (-float(score_sketch(levels, segment.get_vector(row))), identifier, segment, row)
        for _, identifier, segment, row in candidates
    ]
    return sort_candidates(sketched)[:count]


def rank_by_bytes(candidates: list[Candidate], query: NDArray[np.float32], count: int) -> list[Candidate]:
    """Return the best `count` candidates by cosine with a query (D,) that is rounded to signed bytes."""
    ((coarse, _),) = split_query(query, parts=1)
    return rank_by_cosine(candidates, normalise_rows(coarse[np.newaxis].astype(np.float32))[0], None)[:count]


def rank_by_cosine(
    candidates: list[Candidate], query: NDArray[np.float32], source: FeatureSource | None
) -> list[Candidate]:
    """Sort candidates by exact cosine with a normalised query (D,)."""
    if source is not None and candidates:
        scores = compute_cosines(query, source, [identifier for _, identifier, _, _ in candidates]).tolist()
        reranked = [(-score, *candidate[1:]) for score, candidate in zip(scores, candidates, strict=True)]
        return sort_candidates(reranked)
    reranked = []
    for _, identifier, segment, row in candidates:
        vector = segment.get_vector(row)
        cosine = NO_VECTOR if vector is None else float(np.dot(vector, query))
        reranked.append((-cosine, identifier, segment, row))
    return sort_candidates(reranked)


def _score_and_id(candidate: Candidate) -> tuple[float, str]:
    return candidate[:2]


def sort_candidates(candidates: list[Candidate]) -> list[Candidate]:
    """Sort candidates, best first, equal scores by id."""
    return sorted(candidates, key=_score_and_id)
