"""Scan: the best documents of segments for one query, as candidates that sort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.memory.filters import Predicate
from deepterms.memory.segments import Segment
from deepterms.schema.scripts import NO_VECTOR
from deepterms.schema.sketches import count_agreeing_signs
from deepterms.search.rerank import FeatureSource, cosines

__all__ = ["Candidate", "accepted", "best", "by_agreement", "by_cosine", "every", "in_order"]

Candidate = tuple[float, str, Segment, int]  # (minus the score, id, segment, row): sorts best first, equal scores by id


def accepted(segment: Segment, accepts: Predicate) -> NDArray[np.bool_]:
    """Which documents are live and match a filter: bool (n,)."""
    return np.fromiter(
        (
            bool(live) and accepts(identifier, metadata)
            for live, identifier, metadata in zip(segment.live, segment.ids, segment.metadata, strict=True)
        ),
        dtype=np.bool_,
        count=len(segment.ids),
    )


def best(segment: Segment, scores: NDArray[np.int64], count: int) -> list[Candidate]:
    """The best `count` documents with a score, and all that tie with the last of them."""
    (rows,) = np.nonzero(scores)
    if len(rows) > count:
        least = np.partition(scores[rows], len(rows) - count)[len(rows) - count]
        rows = rows[scores[rows] >= least]
    return [(-float(scores[row]), segment.ids[row], segment, row) for row in rows.tolist()]


def every(segment: Segment, kept: NDArray[np.bool_]) -> list[Candidate]:
    """All documents that are kept, bool (n,), without a score yet."""
    return [(0.0, segment.ids[row], segment, row) for row in np.flatnonzero(kept).tolist()]


def by_agreement(candidates: list[Candidate], query: NDArray[np.float32], count: int) -> list[Candidate]:
    """The best `count` candidates by the signs in which their vectors agree with a query (D,); all if not more."""
    if len(candidates) <= count:
        return candidates
    sketched = [
        (-float(count_agreeing_signs(query, segment.vector_of(row))), identifier, segment, row)
        for _, identifier, segment, row in candidates
    ]
    return in_order(sketched)[:count]


def by_cosine(candidates: list[Candidate], query: NDArray[np.float32], source: FeatureSource | None) -> list[Candidate]:
    """Candidates in the order of their exact cosine with a normalised query (D,)."""
    if source is not None and candidates:
        scores = cosines(query, source, [identifier for _, identifier, _, _ in candidates]).tolist()
        reranked = [(-score, *candidate[1:]) for score, candidate in zip(scores, candidates, strict=True)]
        return in_order(reranked)
    reranked = []
    for _, identifier, segment, row in candidates:
        vector = segment.vector_of(row)
        cosine = NO_VECTOR if vector is None else float(np.dot(vector, query))
        reranked.append((-cosine, identifier, segment, row))
    return in_order(reranked)


def _score_and_id(candidate: Candidate) -> tuple[float, str]:
    return candidate[:2]


def in_order(candidates: list[Candidate]) -> list[Candidate]:
    """Best first, equal scores by id."""
    return sorted(candidates, key=_score_and_id)
