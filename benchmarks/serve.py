"""Compares the HTTP API with direct access to the cluster under 32 clients: throughput, p50 and p99.

The two alternate within one run. Direct access sends the bodies that `SurrogateIndex.search` would send, through
urllib3 with persistent connections; they are written in advance, so only the server encodes queries. The server runs in
its own process, the clients in threads of this one. Another client loads the search page throughout. Requires a
cluster: run `deepterms node start`, then

python benchmarks/serve.py --url http://localhost:9200
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import typer
import urllib3

from common.corpus import Corpus, merge
from common.serving import serving
from deepterms.encoders.inputs import normalise_rows
from deepterms.search.options import SearchOptions
from deepterms.search.request import Search
from deepterms.web.schemas import encode_vector

INDEX = "serve-benchmark"
PAGE_PAUSE = 0.05  # seconds between requests for the page


def run_clients(send: Callable[[int], None], *, clients: int, seconds: float) -> list[float]:
    """Send requests from `clients` threads, back to back, and return the time of each in milliseconds."""
    end = time.perf_counter() + seconds

    def client(number: int) -> list[float]:
        times: list[float] = []
        while (started := time.perf_counter()) < end:
            send(number + clients * len(times))
            times.append((time.perf_counter() - started) * 1e3)
        return times

    with ThreadPoolExecutor(clients) as threads:
        return [took for times in threads.map(client, range(clients)) for took in times]


def main(
    url: str = "http://localhost:9200",
    documents: int = 20_000,
    dimensions: int = 1_280,
    top_k: int = 100,
    clients: int = 32,
    rounds: int = 3,
    seconds: float = 5,
) -> None:
    """Fill an index, then put load on the server and on the cluster in turn."""
    corpus = Corpus(url, documents=documents, dimensions=dimensions, top_k=top_k, queries=200)
    index = corpus.create(INDEX)
    corpus.add_to(index)
    merge(index)
    options = SearchOptions(k=10)
    bodies = [
        json.dumps(
            Search.build(
                corpus.encoder.encode_queries(query),
                query,
                index=index.state,
                options=options,
            ).body
        ).encode()
        for query in normalise_rows(corpus.queries)
    ]
    requests = [json.dumps({"query": encode_vector(query), "k": 10}).encode() for query in corpus.queries]
    http = urllib3.PoolManager(maxsize=clients + 1)
    headers = {"Content-Type": "application/json"}

    def post(address: str, body: bytes) -> None:
        answer = http.request("POST", address, body=body, headers=headers)
        assert answer.status == 200, answer.data[:200]
        json.loads(answer.data)

    try:
        with serving(INDEX, url=url) as address:
            page: list[float] = []
            done = threading.Event()

            def load_page() -> None:
                while not done.wait(PAGE_PAUSE):
                    started = time.perf_counter()
                    http.request("GET", f"{address}/")
                    page.append((time.perf_counter() - started) * 1e3)

            targets: dict[str, Callable[[int], None]] = {
                "direct": lambda number: post(f"{url}/{INDEX}/_search", bodies[number % len(bodies)]),
                "served": lambda number: post(f"{address}/v1/search/vector", requests[number % len(requests)]),
            }
            times: dict[str, list[float]] = {name: [] for name in targets}
            with ThreadPoolExecutor(1) as page_thread:
                for number in range(rounds + 1):
                    for name in sorted(targets, reverse=bool(number % 2)):
                        done.clear()
                        page_load = page_thread.submit(load_page) if name == "served" and number else None
                        took = run_clients(targets[name], clients=clients, seconds=seconds)
                        done.set()
                        if page_load is not None:
                            page_load.result()
                        times[name] += took if number else []  # the first round warms up the engine and the server
    finally:
        index.drop()
    print(f"{corpus}, {clients} clients, 200 re-ranked, {rounds} rounds of {seconds:g} s each")
    for name, took in times.items():
        p50, p99 = np.quantile(took, [0.5, 0.99])
        print(f"  {name}  {len(took) / (rounds * seconds):>7,.0f} searches/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms")
    print(f"  served / direct  {len(times['served']) / len(times['direct']):.2f} searches/s")
    print(f"  page under load  p50 {np.quantile(page, 0.5):.1f} ms   p99 {np.quantile(page, 0.99):.1f} ms")


if __name__ == "__main__":
    typer.run(main)
