"""Measure the speed of pivot search, exact and with a projection first, for several numbers of pivots, in one run.

python benchmarks/pivot_assignment.py [--features FILE.npy]

Without a file, descriptors are generated: clusters in 96 directions of decreasing variance, plus noise in all
dimensions. CPU time covers all threads of the process; wall time is how long the caller waits.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, get_args

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import deepterms as dt
from deepterms.encoders.pivots.nearest import NearestPivots, Search

PIVOTS = (4_096, 16_384, 65_536)
LATENT = 96
CENTRES = 3_000


@dataclass(frozen=True)
class Timed:
    """The result of a call and the seconds it took."""

    result: NDArray[np.int32]
    wall: float
    cpu: float


def time_search(nearest: NearestPivots, features: NDArray[np.float32], count: int) -> Timed:
    """Time one search."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = nearest.find(features, count)[0]
    return Timed(result, time.perf_counter() - wall, time.process_time() - cpu)


def generate_descriptors(count: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    """Generate clustered descriptors (count, dimensions), rows L2-normalised."""
    common, rng = np.random.default_rng(0), np.random.default_rng(seed)
    spread = np.arange(1, LATENT + 1)[:, np.newaxis] ** -0.3
    axes = (common.standard_normal((LATENT, dimensions)) * spread * 2 / np.sqrt(LATENT)).astype(np.float32)
    centres = common.standard_normal((CENTRES, LATENT)).astype(np.float32)
    rows = np.empty((count, dimensions), dtype=np.float32)
    for start in range(0, count, 8_192):
        n = min(8_192, count - start)
        latent = centres[rng.integers(0, CENTRES, n)] + 0.7 * rng.standard_normal((n, LATENT), dtype=np.float32)
        piece = latent @ axes + 0.25 * rng.standard_normal((n, dimensions), dtype=np.float32)
        rows[start : start + n] = piece / np.linalg.norm(piece, axis=1, keepdims=True)
    return rows


def compute_agreement(found: NDArray[np.int32], exact: NDArray[np.int32], k: int) -> float:
    """Compute the share of the exact k nearest pivots that were found."""
    return float(np.mean([len(np.intersect1d(a[:k], b[:k])) / k for a, b in zip(found, exact, strict=True)]))


def main(
    pivots: Annotated[list[int] | None, typer.Option(help="Number of pivots; may be repeated.")] = None,
    dimensions: int = 1_280,
    documents: int = 4_000,
    queries: int = 300,
    top_k: int = 8,
    query_top_k: int = 32,
    features: Path | None = None,
) -> None:
    """Print documents assigned per second, query latency, and the share of nearest pivots that each search finds."""
    rows = None if features is None else np.load(features, mmap_mode="r")
    if rows is not None:
        dimensions = rows.shape[1]
    setting = f"{top_k} pivots per document and {query_top_k} per query"
    table = Table(title=f"{dimensions} dimensions, {setting}; {os.cpu_count()} cores")
    agreement = f"agreement@{top_k} / @{query_top_k}"
    for column in ("pivots", "search", "setup (s)", "documents/s", "per CPU s", "query p50 / p95 (ms)", agreement):
        table.add_column(column, justify="right")
    for count in pivots or PIVOTS:
        if rows is None:
            sampled = dt.sample_pivots(generate_descriptors(2 * count, dimensions, 1), count)
            asked = generate_descriptors(documents, dimensions, 2)
        else:
            sampled = dt.sample_pivots(rows, count)
            asked = np.asarray(rows[:: max(1, len(rows) // documents)][:documents], dtype=np.float32)
        exact: NDArray[np.int32] | None = None
        for search in get_args(Search):
            nearest = NearestPivots(sampled, search)
            setup = time_search(nearest, asked[:1], query_top_k)
            some = asked if search != "exact" else asked[: max(queries, 16_384 * 512 // count)]
            assigned = time_search(nearest, some, top_k)
            waits = [time_search(nearest, asked[row : row + 1], query_top_k) for row in range(min(queries, len(asked)))]
            found = np.concatenate([wait.result for wait in waits])
            exact = found if exact is None else exact
            milliseconds = [1000 * wait.wall for wait in waits]
            of_documents = compute_agreement(assigned.result[: len(exact)], exact, top_k)
            table.add_row(
                f"{count:,}",
                search,
                f"{setup.wall:.1f}",
                f"{len(some) / assigned.wall:,.0f}",
                f"{len(some) / assigned.cpu:,.0f}",
                f"{median(milliseconds):.2f} / {np.percentile(milliseconds, 95):.2f}",
                f"{of_documents:.4f} / {compute_agreement(found, exact, query_top_k):.4f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
