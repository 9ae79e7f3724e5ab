"""Measure the cost of re-ranking 0, 200, 500 and 1,000 candidates, float32 and int8, interleaved in one run.

Needs a cluster: run `deepterms node start`, then

python benchmarks/rerank.py --url http://localhost:9200
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import typer
from numpy.typing import NDArray

import deepterms as dt
from common.corpus import Corpus, format_milliseconds, merge
from deepterms.schema.vectors import VectorType

DEPTHS = (0, 200, 500, 1_000)
TYPES: tuple[VectorType, ...] = ("float32", "int8")
PLACES = ("float32", "int8", "client")  # where candidates are re-ranked: in the cluster (two types) or in this process
WARM_UP = 60  # untimed queries of each kind, while the JIT compiles the script


class FeaturesInMemory:
    """Descriptors in this process, with the interface of a feature store."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return rows by id."""
        rows: NDArray[np.float32] = self.features[[int(id) for id in ids]]
        return rows


def main(
    url: str = "http://localhost:9200",
    documents: int = 20_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    queries: int = 100,
    k: int = 10,
) -> None:
    """Fill an index of each type, then run every query on both alternately, at each depth."""
    corpus = Corpus(
        url,
        documents=documents,
        dimensions=dimensions,
        top_k=top_k,
        queries=queries + WARM_UP,
        centres=documents // 20,
    )
    indices: dict[str, dt.SurrogateIndex] = {}
    for name in TYPES:
        indices[name] = index = corpus.create(f"rerank-{name}", store_vectors=name)
        rate = corpus.add_to(index)
        merge(index)
        answer = index.cluster.request("GET", f"/{index.name}/_stats/store")
        size = answer["_all"]["primaries"]["store"]["size_in_bytes"] / 2**20
        print(f"{name}: {rate:,.0f} docs/s in, {size:,.0f} MiB")
    in_memory = FeaturesInMemory(corpus.features)
    times: dict[tuple[str, int], list[float]] = {}
    scores: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number, feature in enumerate(corpus.queries):
        for depth in DEPTHS:
            for place in PLACES if number % 2 else PLACES[::-1]:
                index = indices["float32" if place == "client" else place]
                source = in_memory if place == "client" and depth else None
                started = time.perf_counter()
                hits = index.search(feature, k=k, rerank=depth, rerank_from=source)
                spent = (time.perf_counter() - started) * 1e3
                if number >= WARM_UP:
                    times.setdefault((place, depth), []).append(spent)
                    scores.setdefault((place, depth), []).append({hit.id: hit.score for hit in hits})
    print(f"{corpus}, {queries} queries, {k} hits, milliseconds p50 (p95), including the client's work")
    for depth in DEPTHS:
        cells = (f"{place} {format_milliseconds(times[place, depth])}" for place in PLACES)
        print(f"  {depth:>5} candidates   {'   '.join(cells)}")
    for depth in DEPTHS[1:]:
        exact, lossy = scores["float32", depth], scores["int8", depth]
        pairs = list(zip(exact, lossy, strict=True))
        errors = [abs(one[id] - other[id]) for one, other in pairs for id in one.keys() & other]
        same = np.mean([len(one.keys() & other) / len(one) for one, other in pairs])
        off = f"{np.mean(errors):.1e}, at most {max(errors):.1e}"
        print(f"  int8 at {depth}: cosine error {off}; {same:.1%} of hits kept")
    for index in indices.values():
        index.drop()


if __name__ == "__main__":
    typer.run(main)
