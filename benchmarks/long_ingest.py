"""A long `add_batches`: documents a second and the memory of this process over time.

    python benchmarks/long_ingest.py --documents 200000 [--url http://localhost:9200] [--dimensions 256] [--no-vectors]

Descriptors are made on the way and never held. The slope is a least-squares line through the resident memory after the
first fifth of the documents, when pools and caches have filled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import deepterms as dt
from deepterms.cli.connection import connect
from deepterms.index import DocumentBatch

BATCH = 1_000
POINTS = 20  # lines of the table
PAGE = 4_096


def resident_bytes() -> int:
    """Of this process, as Linux counts them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def synthetic(documents: int, *, dimensions: int) -> Iterator[DocumentBatch]:
    """Batches of random descriptors."""
    generator = np.random.default_rng(2018)
    for start in range(0, documents, BATCH):
        count = min(BATCH, documents - start)
        rows = generator.standard_normal((count, dimensions), dtype=np.float32)
        yield [f"d{n}" for n in range(start, start + count)], rows, [{"n": n} for n in range(start, start + count)]


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--top-k", type=int, default=42)
    parser.add_argument("--no-vectors", action="store_true")
    arguments = parser.parse_args()
    client = connect(arguments.url)
    dt.deploy(client)
    index = dt.SurrogateIndex.create(
        client,
        "benchmark-long-ingest",
        encoder=dt.DeepPermutation(arguments.dimensions, top_k=arguments.top_k),
        store_vectors=not arguments.no_vectors,
        replicas=0,
    )
    print(f"{index.cluster.engine}, {index}")
    print("documents  docs/s  resident MB")
    points: list[tuple[int, int]] = []
    done, shown, started = 0, 0, time.perf_counter()
    last = started

    def progress(count: int) -> None:
        nonlocal done, shown, last
        done += count
        points.append((done, resident_bytes()))
        if done - shown >= arguments.documents / POINTS:
            now = time.perf_counter()
            print(f"{done:9,}  {(done - shown) / (now - last):6,.0f}  {points[-1][1] / 2**20:11.1f}", flush=True)
            shown, last = done, now

    try:
        batches = synthetic(arguments.documents, dimensions=arguments.dimensions)
        report = index.add_batches(batches, on_progress=progress)
        took = time.perf_counter() - started
        settled = np.array([point for point in points if point[0] > arguments.documents / 5], dtype=np.float64)
        slope, _ = np.polyfit(settled[:, 0], settled[:, 1], 1)
        print(f"{report.indexed:,} indexed, {len(report.failed)} failed: {report.indexed / took:,.0f} docs/s")
        print(f"resident memory grows by {slope * 1e6 / 2**20:.2f} MB a million documents")
    finally:
        index.drop()


if __name__ == "__main__":
    main()
