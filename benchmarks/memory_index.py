"""Measure MemoryIndex at a million documents: memory, and nanoseconds per posting against a plain numba scan.

python benchmarks/memory_index.py
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numba
import numpy as np
import psutil
import typer
from numpy.typing import NDArray

import deepterms as dt
from deepterms.memory.segments import Segment

BATCH = 16_384


@numba.njit(cache=False)
def add_postings(
    starts: NDArray[np.int64],
    documents: NDArray[np.uint16],
    frequencies: NDArray[np.uint16],
    components: NDArray[np.int32],
    weights: NDArray[np.int32],
    scores: NDArray[np.int64],
) -> None:
    """Add weight × frequency for every posting in the query's lists."""
    for position in range(len(components)):
        component = components[position]
        for place in range(starts[component], starts[component + 1]):
            scores[documents[place]] += weights[position] * np.int64(frequencies[place])


def main(documents: int = 1_000_000, dimensions: int = 2_048, top_k: int = 100, queries: int = 15) -> None:
    """Fill an index with random descriptors, then search it in both ways, alternately."""
    process = psutil.Process()
    rng = np.random.default_rng(0)
    encoder = dt.DeepPermutation(dimensions, top_k=top_k)
    index = dt.MemoryIndex(encoder, store_vectors=False)
    started, peak = time.perf_counter(), 0
    for start in range(0, documents, BATCH):
        count = min(BATCH, documents - start)
        features = rng.standard_normal((count, dimensions), dtype=np.float32)
        index.add([str(number) for number in range(start, start + count)], features)
        peak = max(peak, process.memory_info().rss)
    print(f"{documents:,} documents added in {time.perf_counter() - started:.0f} s, including descriptor generation")
    segments: list[Segment] = list(index._all_segments())
    ours, limit, wall = [], [], []
    for number in range(queries + 2):
        feature = rng.standard_normal((1, dimensions), dtype=np.float32)
        ((components, weights),) = encoder.encode_queries(feature).rows()
        # A segment lists only codewords that occur; here all of them do, otherwise the assertion below fails.
        lists = [np.searchsorted(one.codewords, components).astype(np.int32) for one in segments]
        postings = sum(
            int((one.starts[which + 1] - one.starts[which]).sum()) for one, which in zip(segments, lists, strict=True)
        )
        started = time.perf_counter()
        mine = [segment.score(components, weights) for segment in segments]
        middle = time.perf_counter()
        theirs: list[Any] = []
        for segment, which in zip(segments, lists, strict=True):
            scores = np.zeros(len(segment.ids), dtype=np.int64)
            add_postings(segment.starts, segment.documents, segment.frequencies, which, weights, scores)
            theirs.append(scores)
        ended = time.perf_counter()
        assert all((a == b).all() for a, b in zip(mine, theirs, strict=True))
        index.search(feature[0], k=10, rerank=0)
        searched = time.perf_counter()
        if number >= 2:  # the first two compile and warm up
            ours.append((middle - started) / postings * 1e9)
            limit.append((ended - middle) / postings * 1e9)
            wall.append((searched - ended) * 1e3)
    peak = max(peak, process.memory_info().rss)
    print(
        f"K={top_k}, {postings / documents:.2f} postings per document in the collection, median of {queries} queries:"
    )
    print(f"  MemoryIndex scan  {median(ours):6.2f} ns per posting")
    print(f"  numba scan        {median(limit):6.2f} ns per posting")
    print(f"  search, k=10      {median(wall):6.1f} ms")
    print(f"  peak resident memory {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    typer.run(main)
