"""Compare encoding in the pipeline with encoding in the client, and measure the cost of the index pipeline, in one run.

Indexes the same documents in four ways, interleaved, each into a new index: terms encoded by the client; the same, but
bypassing the index pipeline for that of the layout; raw vectors as base64; raw vectors as arrays. Bodies are built
beforehand and sent by urllib3 over persistent connections. Needs a cluster: run `deepterms node start`, then

python benchmarks/pipeline_encoding.py --url http://localhost:9200
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import typer
import urllib3
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cli.connection import connect
from deepterms.cluster.cluster import Cluster
from deepterms.schema.documents import build_bulk_lines, check_batch
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import find_layout, select_default_layout
from deepterms.schema.vectors import encode_vector

DOCUMENTS_PER_BULK = 500

Render = Callable[[list[str], NDArray[np.float32]], list[str]]


def main(
    url: str = "http://localhost:9200",
    documents: int = 5_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    layout: str | None = None,
    vectors: bool = False,
    threads: int = 2,
    rounds: int = 5,
) -> None:
    """Fill new indices alternately in each of the four ways."""
    client = connect(url)
    cluster = Cluster(client)
    dt.deploy(client)
    chosen = layout or select_default_layout(cluster.engine).name
    encoder = dt.DeepPermutation(dimensions, top_k=top_k, binary=chosen == "codewords")
    features = np.random.default_rng(0).standard_normal((documents, dimensions), dtype=np.float32)
    ids = [f"image-{number}" for number in range(documents)]
    http = urllib3.PoolManager(maxsize=threads)
    headers = {"Content-Type": "application/x-ndjson"}

    def render_terms(ids: list[str], features: NDArray[np.float32]) -> list[str]:
        batch = check_batch(ids, features, None, encoder=encoder)
        lines = build_bulk_lines(batch, IndexSpec(encoder, find_layout(chosen), "float32" if vectors else None))
        return [source or "" for _, source in lines]

    def render_base64(ids: list[str], features: NDArray[np.float32]) -> list[str]:
        return [f'{{"vector":"{encode_vector(row)}"}}' for row in features]

    def render_arrays(ids: list[str], features: NDArray[np.float32]) -> list[str]:
        # The shortest text of each float32, as a producer in any language would write it.
        return [f'{{"vector":[{",".join(map(str, row))}]}}' for row in features.astype(str)]

    ways: dict[str, tuple[Render, bool]] = {
        "terms": (render_terms, True),
        "terms, index pipeline bypassed": (render_terms, False),
        "vectors as base64": (render_base64, True),
        "vectors as arrays": (render_arrays, True),
    }

    def build_bodies(render: Render) -> list[bytes]:
        made = []
        for start in range(0, documents, DOCUMENTS_PER_BULK):
            piece = slice(start, start + DOCUMENTS_PER_BULK)
            sources = zip(ids[piece], render(ids[piece], features[piece]), strict=True)
            made.append("".join(f'{{"index":{{"_id":"{id}"}}}}\n{source}\n' for id, source in sources).encode())
        return made

    def post(body: bytes) -> None:
        answer = json.loads(http.request("POST", f"{url}/encoding/_bulk", body=body, headers=headers).data)
        if answer["errors"]:
            raise SystemExit(f"rejected: {next(item for item in answer['items'] if 'error' in item['index'])}")

    made: dict[str, list[bytes]] = {}
    preparing: dict[str, float] = {}
    for name, (render, _) in ways.items():
        started = time.perf_counter()
        made[name] = build_bodies(render)
        preparing[name] = documents / (time.perf_counter() - started)

    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for name in order:
            index = dt.SurrogateIndex.create(
                client, "encoding", encoder=encoder, layout=chosen, store_vectors=vectors, replicas=0
            )
            pipeline = index.layout.index_name("encoding") if ways[name][1] else index.layout.resource
            cluster.request("PUT", "/encoding/_settings", body={"index.default_pipeline": pipeline})
            started = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(post, made[name]))
            rate = documents / (time.perf_counter() - started)
            index.drop()
            if number:  # the first round warms up the engine
                rates[name].append(rate)
    print(
        f"{cluster.engine}, layout {chosen}, {documents} documents, D={dimensions}, K={top_k}, "
        f"vectors stored: {vectors}, {threads} threads, median of {rounds} rounds"
    )
    print(f"{'':34}{'docs/s':>8}{'vs. terms':>10}{'bytes/doc':>11}{'built, docs/s':>14}")
    for name in ways:
        ratio = median(own / base for own, base in zip(rates[name], rates["terms"], strict=True))
        size = sum(map(len, made[name])) / documents
        print(f"  {name:<32}{median(rates[name]):>8,.0f}{ratio:>10.2f}{size:>11,.0f}{preparing[name]:>14,.0f}")


if __name__ == "__main__":
    typer.run(main)
