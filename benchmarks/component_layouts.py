"""Measure how fast each layout scores components (`DeepPermutation`), without re-ranking, interleaved in one run.

Requests are timed alone: after a search of `rank_features`, whose clauses cannot name the index they were built for,
the client also asks which index it was. The scripted similarity of `frequencies` and `words` is called once per
posting. Lucene scores the features of `rank_features` in bulk from version 10.3 on. Both engines at once:

python benchmarks/component_layouts.py --url http://localhost:9200 --url http://localhost:9201
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import typer

import deepterms as dt
from common.corpus import Corpus, merge
from deepterms.errors import UnsupportedEngine
from deepterms.search.body import search_body

WARM_UP = 40  # untimed queries of each layout
LAYOUTS = ("frequencies", "words", "rank_features")


def main(
    url: Annotated[list[str], typer.Option()],
    documents: int = 20_000,
    dimensions: int = 2_048,
    top_k: Annotated[list[int], typer.Option()] = [42, 100, 200, 400],  # noqa: B006 (typer copies it)
    queries: int = 150,
) -> None:
    """Fill an index of each layout that an engine supports, for each K, and search them alternately."""
    for address in url:
        for k in top_k:
            corpus = Corpus(
                address,
                documents=documents,
                dimensions=dimensions,
                top_k=k,
                queries=queries + WARM_UP,
                centres=documents // 20,
            )
            indices: dict[str, dt.SurrogateIndex] = {}
            rates: dict[str, float] = {}
            for layout in LAYOUTS:
                try:
                    index = corpus.create(f"components-{layout.replace('_', '-')}", layout=layout, store_vectors=False)
                except UnsupportedEngine:
                    continue
                rates[layout] = corpus.add_to(index)
                merge(index)
                indices[layout] = index
            times: dict[str, list[float]] = {layout: [] for layout in indices}
            found: dict[str, list[dict[str, float]]] = {layout: [] for layout in indices}
            for number, feature in enumerate(corpus.queries):
                for layout in list(indices)[:: 1 if number % 2 else -1]:
                    index = indices[layout]
                    terms = corpus.encoder.encode_queries(feature)
                    body = search_body(terms, layout=index.layout, field=index.state.field, k=10)
                    started = time.perf_counter()
                    answer = index.cluster.request("POST", f"/{index.name}/_search", body=body)
                    if number >= WARM_UP:
                        times[layout].append((time.perf_counter() - started) * 1e3)
                        found[layout].append({hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]})
            print(f"{corpus}, {queries} queries")
            first = next(iter(indices))
            for layout, taken in times.items():
                index = indices[layout]
                size = index.cluster.request("GET", f"/{index.name}/_stats/store")["_all"]["primaries"]["store"]
                ratio = float(np.median(np.array(taken) / np.array(times[first])))
                p25, p50 = np.quantile(taken, (0.25, 0.5))
                equal = np.mean(
                    [sorted(a.values()) == sorted(b.values()) for a, b in zip(found[layout], found[first], strict=True)]
                )
                print(
                    f"  {layout:13} {p50:6.2f} ms (quartile {p25:.2f}), {ratio:.2f} of {first}, "
                    f"{rates[layout]:,.0f} docs/s, {size['size_in_bytes'] / documents:,.0f} bytes/document, "
                    f"equal scores {equal:.0%}",
                    flush=True,
                )
            for index in indices.values():
                index.drop()


if __name__ == "__main__":
    typer.run(main)
