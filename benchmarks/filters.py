"""Measure the latency of searches under filters that keep 1, 10 and 50 % of the documents, and check the rankings.

Every ranking is compared with that of MemoryIndex: scores must be equal, and ids must be equal above the last group of
tied scores. For re-ranked hits, every cosine is compared with the exact one. A difference aborts the run.

Needs a cluster: run `deepterms node start`, then

python benchmarks/filters.py --url http://localhost:9200
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import typer

import deepterms as dt
from common.corpus import Corpus, format_milliseconds, merge
from deepterms.encoders.inputs import normalise_rows

SHARES = (1, 10, 50, 100)  # percent kept
WARM_UP = 20
COSINE_TOLERANCE = 1e-6


def is_same_ranking(found: dt.Hits, expected: dt.Hits) -> bool:
    """Whether two rankings are the same, up to the order of tied scores."""
    if [hit.score for hit in found] != [hit.score for hit in expected] or found.partial:
        return False
    least = min((hit.score for hit in expected), default=0.0)
    first, second = ({hit.id for hit in hits if hit.score > least} for hits in (found, expected))
    return first == second


def main(
    url: str = "http://localhost:9200",
    documents: int = 20_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    queries: int = 30,
    k: int = 10,
) -> None:
    """Fill an index and a MemoryIndex with the same documents, then search both, with and without re-ranking."""
    corpus = Corpus(url, documents=documents, dimensions=dimensions, top_k=top_k, queries=queries + WARM_UP)
    draws = np.random.default_rng(0).permutation(documents) * 100 // documents  # 0 to 99, uniformly
    metadata = [{"draw": int(draw)} for draw in draws]
    index = corpus.create("filters")
    reference = dt.MemoryIndex(corpus.encoder)
    for target in (index, reference):
        corpus.add_to(target, metadata=metadata)
    merge(index)
    normalised = normalise_rows(corpus.features)
    times: dict[tuple[int, int], list[float]] = {}
    compared = 0
    for number, feature in enumerate(corpus.queries):
        for share in SHARES:
            chosen: dict[str, Any] | None = {"range": {"metadata.draw": {"lt": share}}} if share < 100 else None
            for rerank in (0, 200):
                started = time.perf_counter()
                found = index.search(feature, k=k, filter=chosen, rerank=rerank, fields=["draw"])
                spent = (time.perf_counter() - started) * 1e3
                if number < WARM_UP:
                    continue
                times.setdefault((share, rerank), []).append(spent)
                if rerank:
                    cosines = normalised[[int(hit.id) for hit in found]] @ normalise_rows(feature[np.newaxis])[0]
                    scores = np.array([hit.score for hit in found])
                    fine = bool(np.all(np.abs(cosines - scores) < COSINE_TOLERANCE))
                else:
                    fine = is_same_ranking(found, reference.search(feature, k=k, filter=chosen, rerank=0))
                if not fine or any(hit.metadata["draw"] >= share for hit in found):
                    sys.exit(f"query {number}, {share} % kept, rerank {rerank}: wrong hits {found.hits}")
                compared += 1
    print(f"{corpus}, {k} hits, milliseconds p50 (p95)")
    for share in SHARES:
        cells = (f"rerank {rerank:>3} {format_milliseconds(times[share, rerank])}" for rerank in (0, 200))
        print(f"  {share:>3} % kept   {'   '.join(cells)}")
    print(f"  {compared} responses compared: all equal")
    index.drop()


if __name__ == "__main__":
    typer.run(main)
