"""The physical limit: a collection's posting lists scanned by compiled loops, and what they find."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import MissingExtra
from deepterms.paper.tables.synthetic import CHUNK, Collection
from deepterms.terms import TermFrequencies

__all__ = ["Scanned", "scan"]

WARM_UP = 3  # of the first chunk: the loop is compiled, and the processor wakes up


@dataclass(eq=False)
class Scanned:
    """What a scan of all lists of Q queries took and found, at one K.

    Attributes:
        seconds: float64 (Q,), in the loops alone.
        postings: int64 (Q,), read.
        touched: int64 (Q,), documents that have a posting.
        best: int64 (Q, k), the largest scores, descending; 0 where fewer documents are touched.
    """

    seconds: NDArray[np.float64]
    postings: NDArray[np.int64]
    touched: NDArray[np.int64]
    best: NDArray[np.int64]


def scan(
    collection: Collection, *, queries: int, k: int, on_progress: Callable[[int], None] = lambda done: None
) -> dict[int, Scanned]:
    """K → the scan of the collection for its first queries, a chunk of documents at a time.

    A chunk's scores fit the processor's cache and its documents' numbers 16 bits, so this is about as fast as one core
    can add up posting lists that lie in memory. Inverting the chunk is not counted.

    Args:
        collection: the documents.
        queries: Q.
        k: how many scores are kept.
        on_progress: called with the number of documents done.

    Raises:
        MissingExtra: numba is not installed.
    """
    add = _compiled()
    asked = collection.queries(queries)
    result = {
        top_k: Scanned(np.zeros(queries), *(np.zeros(shape, np.int64) for shape in (queries, queries, (queries, k))))
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
    into: Scanned,
    *,
    warm_up: int,
) -> None:
    starts, documents, frequencies = lists
    scores = np.zeros(CHUNK, dtype=np.int32)  # K(K+1)(2K+1)/6 at most: 21 million at K = 400
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
    """Add weight × frequency of every posting of the query's lists."""
    for position in range(len(components)):
        weight = weights[position]
        for place in range(starts[components[position]], starts[components[position] + 1]):
            scores[documents[place]] += weight * np.int32(frequencies[place])


@cache
def _compiled() -> Callable[..., None]:
    try:
        import numba
    except ModuleNotFoundError as error:
        raise MissingExtra("numba", "evaluate") from error
    compiled: Callable[..., None] = numba.njit(nogil=True)(_add)
    return compiled
