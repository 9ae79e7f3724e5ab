"""Scan a collection's posting lists in compiled loops, as a lower bound on search time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.optional import require
from deepterms.paper.tables.synthetic import CHUNK, SyntheticCollection
from deepterms.terms import TermFrequencies

__all__ = ["ScanResult", "scan_postings"]

WARM_UP = 3  # extra scans of the first chunk, while the loop is compiled and the processor reaches its clock rate


@dataclass(eq=False)
class ScanResult:
    """Time and hits of scanning the posting lists of Q queries at one K.

    Attributes:
        seconds: float64 (Q,), spent in the loops only.
        postings: int64 (Q,), postings read.
        touched: int64 (Q,), documents with at least one posting.
        best: int64 (Q, k), the highest scores in descending order; 0 where fewer documents are touched.
    """

    seconds: NDArray[np.float64]
    postings: NDArray[np.int64]
    touched: NDArray[np.int64]
    best: NDArray[np.int64]


def scan_postings(
    collection: SyntheticCollection, *, queries: int, k: int, on_progress: Callable[[int], None] = lambda done: None
) -> dict[int, ScanResult]:
    """Scan the posting lists of the first queries, one chunk of documents at a time.

    The scores of a chunk fit in the processor's cache and its document numbers in 16 bits, so this is about as fast as
    one core can add up posting lists in memory. Inverting the chunk is not timed.

    Args:
        collection: documents and queries.
        queries: Q, the number of queries.
        k: number of scores to keep per query.
        on_progress: called with the number of documents done.

    Returns:
        K → result.

    Raises:
        MissingExtra: numba is not installed.
    """
    add = _compile_loop()
    asked = collection.queries(queries)
    result = {
        top_k: ScanResult(np.zeros(queries), *(np.zeros(shape, np.int64) for shape in (queries, queries, (queries, k))))
        for top_k in collection.top_ks
    }
    for start, chunk in collection.chunks():
        for top_k, terms in chunk.items():
            lists = terms.matrix.tocsc()
            arrays = (lists.indptr.astype(np.int64), lists.indices.astype(np.uint16), lists.data.astype(np.uint16))
            _scan_chunk(add, arrays, asked[top_k], result[top_k], warm_up=0 if start else WARM_UP)
        on_progress(min(start + CHUNK, collection.documents))
    return result


def _scan_chunk(
    add: Callable[..., None],
    lists: tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]],
    queries: TermFrequencies,
    into: ScanResult,
    *,
    warm_up: int,
) -> None:
    starts, documents, frequencies = lists
    scores = np.zeros(CHUNK, dtype=np.int32)  # at most K(K+1)(2K+1)/6: 21 million at K = 400
    k = into.best.shape[1]
    for number, (components, weights) in enumerate(queries.rows()):
        for _ in range(1 + (warm_up if number == 0 else 0)):
            started = time.perf_counter()
            scores[:] = 0
            add(starts, documents, frequencies, components, weights, scores)
            elapsed = time.perf_counter() - started
        into.seconds[number] += elapsed
        into.postings[number] += int((starts[components + 1] - starts[components]).sum())
        into.touched[number] += np.count_nonzero(scores)
        into.best[number] = -np.sort(-np.concatenate([into.best[number], np.partition(scores, -k)[-k:]]))[:k]


def _add(
    starts: Any, documents: Any, frequencies: Any, components: Any, weights: Any, scores: Any
) -> None:  # pragma: no cover - compiled
    """Add weight × frequency for every posting in the query's lists."""
    for position in range(len(components)):
        weight = weights[position]
        for place in range(starts[components[position]], starts[components[position] + 1]):
            scores[documents[place]] += weight * np.int32(frequencies[place])


@cache
def _compile_loop() -> Callable[..., None]:
    with require("numba", "evaluate"):
        import numba
    compiled: Callable[..., None] = numba.njit(nogil=True)(_add)
    return compiled
