"""Measure a long `add_batches`: documents per second and memory of this process over time, as a table and a plot.

Descriptors are generated on the fly and not kept. The slope is that of a least-squares line through resident memory
after the first fifth of the documents, when pools and caches have filled. Needs `pip install --group benchmarks` and a
cluster: run `deepterms node start`, then

python benchmarks/long_ingest.py --url http://localhost:9200
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import psutil
import typer

import deepterms as dt
from deepterms.cli.connection import connect
from deepterms.index import DocumentBatch

RESULTS = Path(__file__).parent / "results" / "long_ingest.csv"
BATCH = 1_000
POINTS = 100
SETTLED = 0.2  # share of the documents to exclude from the slope


class Point(NamedTuple):
    """A measurement; the rate is that since the previous point."""

    documents: int
    seconds: float
    documents_per_second: float
    resident_mb: float


def generate_batches(documents: int, *, dimensions: int) -> Iterator[DocumentBatch]:
    """Generate batches of random descriptors."""
    generator = np.random.default_rng(2018)
    for start in range(0, documents, BATCH):
        count = min(BATCH, documents - start)
        rows = generator.standard_normal((count, dimensions), dtype=np.float32)
        yield [f"d{n}" for n in range(start, start + count)], rows, [{"n": n} for n in range(start, start + count)]


def ingest(index: dt.SurrogateIndex, documents: int) -> list[Point]:
    """Add the documents and take a measurement after every hundredth of them."""
    process = psutil.Process()
    points = [Point(0, 0.0, 0.0, process.memory_info().rss / 1e6)]
    done, started = 0, time.perf_counter()

    def progress(count: int) -> None:
        nonlocal done
        done += count
        last = points[-1]
        more = done - last.documents
        if more >= documents / POINTS:
            seconds = time.perf_counter() - started
            points.append(Point(done, seconds, more / (seconds - last.seconds), process.memory_info().rss / 1e6))
            if not len(points) % 5:
                print(f"{done:9,}  {points[-1].documents_per_second:6,.0f}  {points[-1].resident_mb:11.1f}", flush=True)

    print("documents  docs/s  resident MB")
    report = index.add_batches(generate_batches(documents, dimensions=index.encoder.dimensions), on_progress=progress)
    assert report.succeeded == documents, report.failed[:1]
    return points[1:]


def fit_line(points: list[Point]) -> tuple[float, float]:
    """Fit a line to the settled points; return slope (MB per document) and intercept (MB)."""
    settled = np.array([point for point in points if point.documents > SETTLED * points[-1].documents])
    slope, intercept = np.polyfit(settled[:, 0], settled[:, 3], 1)
    return float(slope), float(intercept)


def draw(points: list[Point], path: Path, *, title: str) -> None:
    """Plot the curves as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    slope, intercept = fit_line(points)
    # Keep text as text, and make the same points give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "long_ingest"}):
        figure = Figure(figsize=(7, 5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        documents = [point.documents for point in points]
        above.plot(documents, [point.documents_per_second for point in points])
        above.set(ylim=0, ylabel="documents per second", title=title)
        below.plot(documents, [point.resident_mb for point in points])
        below.plot(documents, [intercept + slope * count for count in documents], "--", color="grey")
        below.set(
            ylim=(0, 1.2 * max(point.resident_mb for point in points)),
            ylabel="client memory, MB",
            xlabel="documents",
        )
        below.legend(["resident", f"{slope * 1e6:+.1f} MB per million documents"], loc="lower right")
        below.xaxis.set_major_formatter("{x:,.0f}")
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(
    url: str = "http://localhost:9200",
    documents: int = 300_000,
    dimensions: int = 2_048,
    top_k: int = 100,
    vectors: bool = True,
    results: Annotated[Path, typer.Option(help="CSV file to write; the plot is written next to it.")] = RESULTS,
) -> None:
    """Fill an index, print and write the table, and draw the plot."""
    client = connect(url)
    dt.deploy(client)
    encoder = dt.DeepPermutation(dimensions, top_k=top_k)
    index = dt.SurrogateIndex.create(
        client, "benchmark-long-ingest", encoder=encoder, store_vectors=vectors, replicas=0
    )
    title = f"{index.cluster.engine}, D={dimensions}, K={top_k}, {'with' if vectors else 'without'} vectors"
    print(f"{title}, {documents:,} documents")
    try:
        points = ingest(index, documents)
    finally:
        index.drop()
    slope, _ = fit_line(points)
    print(f"resident memory grows by {slope * 1e6:.2f} MB per million documents")
    results.parent.mkdir(exist_ok=True)
    with results.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Point._fields)
        writer.writerows((count, f"{at:.2f}", f"{rate:.0f}", f"{size:.2f}") for count, at, rate, size in points)
    draw(points, results.with_suffix(".svg"), title=title)


if __name__ == "__main__":
    typer.run(main)
