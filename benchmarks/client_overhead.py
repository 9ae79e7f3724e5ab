"""Measure the client's overhead: `add` and `search` against the same requests sent raw, interleaved in one run.

Raw requests have prebuilt bodies and are sent by urllib3 over persistent connections from the same number of threads;
responses are parsed and discarded. Searches are the defaults of two indices: the one filled above, and one with
`encoder="auto"` and int8 vectors, whose queries find their pivots and whose candidates are re-ranked. Needs a cluster:
run `deepterms node start`, then

python benchmarks/client_overhead.py --url http://localhost:9200
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import typer
import urllib3
from numpy.typing import NDArray

import deepterms as dt
from common.corpus import Corpus, merge
from deepterms.encoders.inputs import normalise_rows
from deepterms.index.ingest import DOCUMENTS_PER_BULK
from deepterms.schema.documents import build_bulk_lines, check_batch
from deepterms.search.options import SearchOptions
from deepterms.search.request import Search

WARM_UP = 50  # untimed searches of each kind


def build_bodies(index: dt.SurrogateIndex, ids: list[str], features: NDArray[np.float32]) -> list[bytes]:
    """Build the bodies of the bulk requests that `add` sends."""
    bodies = []
    for start in range(0, len(ids), DOCUMENTS_PER_BULK):
        piece = slice(start, start + DOCUMENTS_PER_BULK)
        batch = check_batch(ids[piece], features[piece], None, encoder=index.encoder)
        lines = build_bulk_lines(batch, index.spec, fingerprint=index.state.fingerprint)
        bodies.append("".join(f"{json.dumps(action)}\n{source}\n" for action, source in lines).encode())
    return bodies


def build_search(index: dt.SurrogateIndex, feature: NDArray[np.float32]) -> bytes:
    """Build the body of the request that a default search of ten hits sends."""
    search = Search.build(
        index.encoder.encode_queries(feature),
        normalise_rows(feature[np.newaxis])[0],
        index=index.state,
        options=SearchOptions(k=10),
    )
    return json.dumps(search.body, separators=(",", ":")).encode()


def main(
    url: str = "http://localhost:9200",
    documents: int = 20_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    vectors: bool = False,
    threads: int = 2,
    rounds: int = 5,
    queries: int = 200,
) -> None:
    """Fill new indices alternately through `add` and by raw requests, then search alternately."""
    corpus = Corpus(url, documents=documents, dimensions=dimensions, top_k=top_k, queries=queries + WARM_UP)
    http = urllib3.PoolManager(maxsize=threads)
    headers = {"Content-Type": "application/x-ndjson"}

    def post(body: bytes) -> None:
        answer = http.request("POST", f"{url}/overhead/_bulk", body=body, headers=headers).json()
        assert not answer["errors"]

    ours, raw, ratios = [], [], []
    for number in range(rounds + 1):
        index = corpus.create("overhead", store_vectors=vectors)
        mine = corpus.add_to(index, threads=threads)
        index.drop()
        index = corpus.create("overhead", store_vectors=vectors)
        bodies = build_bodies(index, corpus.ids, corpus.features)
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(post, bodies))
        theirs = documents / (time.perf_counter() - started)
        if number < rounds:
            index.drop()
        if number:  # the first round warms up the engine
            ours.append(mine)
            raw.append(theirs)
            ratios.append(mine / theirs)
    print(f"{corpus}, vectors {vectors}, {threads} threads, median of {rounds} rounds and {queries} queries")
    print(f"  add                     {median(ours):>8,.0f} docs/s, including encoding")
    print(f"  raw bulk requests       {median(raw):>8,.0f} docs/s")
    print(f"  add / raw               {median(ratios):>8.2f}")

    merge(index)
    time_searches("as filled", index, corpus.queries, http, url)
    index.drop()
    index = corpus.create(
        "overhead", encoder="auto", features=corpus.features, documents=documents, store_vectors="int8"
    )
    corpus.add_to(index, threads=threads)
    merge(index)
    time_searches(f"{index.encoder}, {index.rerank} re-ranked", index, corpus.queries, http, url)
    index.drop()


def time_searches(
    name: str, index: dt.SurrogateIndex, queries: NDArray[np.float32], http: urllib3.PoolManager, url: str
) -> None:
    """Time default searches against the same requests sent raw, alternately."""
    times: dict[str, list[float]] = {"search": [], "raw": []}
    build: list[float] = []
    for number, feature in enumerate(queries):
        started = time.perf_counter()
        data = build_search(index, feature)
        build.append((time.perf_counter() - started) * 1e3)
        for kind in ("search", "raw") if number % 2 else ("raw", "search"):
            started = time.perf_counter()
            if kind == "search":
                index.search(feature, k=10)
            else:
                http.request(
                    "POST", f"{url}/overhead/_search", body=data, headers={"Content-Type": "application/json"}
                ).json()
            if number >= WARM_UP:
                times[kind].append((time.perf_counter() - started) * 1e3)
    mine, theirs = median(times["search"]), median(times["raw"])
    print(f"{name}, {len(data):,} bytes per request")
    print(f"  search, k=10, p50       {mine:>8.2f} ms, of which encoding and JSON {median(build[WARM_UP:]):.2f}")
    print(f"  raw search request, p50 {theirs:>8.2f} ms")
    print(f"  search / raw            {mine / theirs:>8.2f}, {mine - theirs:.2f} ms more")


if __name__ == "__main__":
    typer.run(main)
