"""Measure `create(dense_vector=True)`: documents per second, bytes and complete searches, with and without it.

Both indices receive the same batches alternately, so that other load on the machine affects both.

Needs Elasticsearch:

python benchmarks/dense_vector_index.py --url http://localhost:9200
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import typer

import deepterms as dt
from common.corpus import Corpus, format_milliseconds, merge

PIECE = 250  # documents that one index receives before the other's turn
BLOCK = 25  # queries per turn
WARM_UP = 100  # untimed queries per index, while the JIT compiles the script


def read_store_bytes(index: dt.SurrogateIndex) -> int:
    """Return the size of an index with one segment."""
    answer = index.cluster.request("GET", f"/{index.name}/_stats/store")
    return int(answer["_all"]["primaries"]["store"]["size_in_bytes"])


def main(
    url: str = "http://localhost:9200",
    documents: int = 4_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    queries: int = 200,
    candidates: int = 500,
) -> None:
    """Fill both indices, then run every query on both."""
    corpus = Corpus(
        url, documents=documents, dimensions=dimensions, top_k=top_k, queries=queries + WARM_UP, centres=documents // 20
    )
    indices = {
        name: corpus.create(f"dense-index-{name}".replace("_", "-"), dense_vector=name == "dense_vector")
        for name in ("script", "dense_vector")
    }
    taken: dict[str, list[float]] = {name: [] for name in indices}
    for start in range(0, documents, PIECE):
        ids, rows = corpus.ids[start : start + PIECE], corpus.features[start : start + PIECE]
        for name, index in indices.items():
            began = time.perf_counter()
            report = index.add(ids, rows)
            taken[name].append(time.perf_counter() - began)
            assert report.succeeded == len(ids), report.failed[:1]
    for index in indices.values():
        merge(index)
    spent: dict[str, list[float]] = {name: [] for name in indices}
    for start in range(0, len(corpus.queries), BLOCK):
        found: dict[str, list[list[float]]] = {name: [] for name in indices}
        for name, index in indices.items():
            for query in corpus.queries[start : start + BLOCK]:
                began = time.perf_counter()
                hits = index.search(query, rerank=candidates)
                if start >= WARM_UP:
                    spent[name].append((time.perf_counter() - began) * 1e3)
                found[name].append([hit.score for hit in hits])
        assert np.allclose(found["script"], found["dense_vector"], rtol=0, atol=1e-6)
    print(f"{corpus}, {queries} queries, {candidates} candidates")
    for name, index in indices.items():
        rate = PIECE / median(taken[name][2:])
        size = read_store_bytes(index) / documents
        times = format_milliseconds(spent[name])
        print(f"  {name:>12}   {rate:6.0f} documents/s   {size:7.0f} bytes per document   {times} ms")
        index.drop()


if __name__ == "__main__":
    typer.run(main)
