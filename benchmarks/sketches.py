"""Measure what candidates lose when they are compared by sketch first, and by queries of few bits.

Of the nearest candidates of a query by cosine, which share of the ten nearest is among the best 30, 50, 100 and 200 by
sketch? Three collections:

- crops: the real descriptors of `benchmarks/common/descriptors.py`;
- crops of other photographs: the same, without the crops of the query's own photograph, so that neighbours are only
  moderately similar, and many are about as near as the tenth;
- mixed: mixtures of these descriptors.

No cluster is needed. The levels of a sketch's query (deepterms.schema.sketches) were chosen with the even
photographs (`--tune`); the odd ones are measured by default.

python benchmarks/sketches.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from common.descriptors import DEFAULT_FOLDER, generate_mixtures
from deepterms.encoders.inputs import normalise_rows
from deepterms.evaluation.photos.crops import MAX_CROPS, describe_crops
from deepterms.schema.sketches import quantise_for_sketches
from deepterms.schema.vectors import quantise_and_restore, round_query

Features = NDArray[np.float32]
KEPT = (30, 50, 100, 200)
NEAREST = 10

COMPARISONS: dict[str, Callable[[Features, int], Features]] = {
    "signs": lambda query, _: np.where(np.signbit(query), -1, 1).astype(np.float32),
    "values in 4 bits": lambda query, dimensions: quantise_for_sketches(query)[:dimensions].astype(np.float32),
    "values in float32": lambda query, _: query,
}


def measure(name: str, features: Features, queries: Features, left_out: list[NDArray[np.int64]], depth: int) -> None:
    """Print the shares for one collection."""
    signs = np.where(np.signbit(features), -1, 1).astype(np.float32)
    stored = quantise_and_restore(features, "int8")
    shares: dict[str, list[list[float]]] = {kind: [] for kind in COMPARISONS}
    int8: list[list[float]] = []
    for query, rows in zip(queries, left_out, strict=True):
        cosines = features @ query
        cosines[rows] = -np.inf
        candidates = np.argpartition(-cosines, depth)[:depth]
        nearest = set(candidates[np.argsort(-cosines[candidates], kind="stable")[:NEAREST]].tolist())
        for kind, weigh in COMPARISONS.items():
            order = candidates[np.argsort(-(signs[candidates] @ weigh(query, len(query))), kind="stable")]
            shares[kind].append([len(nearest & set(order[:kept].tolist())) / NEAREST for kept in KEPT])
        few_bits = np.rint(query / np.abs(query).max() * 127)
        row = []
        for asked in (query, round_query(query, "int8"), few_bits):
            order = candidates[np.argsort(-(stored[candidates].astype(np.float64) @ asked), kind="stable")]
            row.append(len(nearest & set(order[:NEAREST].tolist())) / NEAREST)
        int8.append(row)
    print(f"{name}: {len(features):,} x {features.shape[1]}, {len(queries)} queries, {depth} candidates")
    for kind, rows_of_shares in shares.items():
        means = np.mean(rows_of_shares, axis=0)
        print(f"  {kind:18}", "  ".join(f"best {kept}: {mean:.3f}" for kept, mean in zip(KEPT, means, strict=True)))
    full, twelve, eight = np.mean(int8, axis=0)
    print(f"  int8 vectors, query in float32: {full:.4f}, 12 bits: {twelve:.4f}, 8 bits: {eight:.4f}", flush=True)


def main(
    folder: Path = DEFAULT_FOLDER,
    crops: int = MAX_CROPS,
    mixed: int = 20_000,
    queries: int = 300,
    depth: int = 1_000,
    tune: bool = False,
) -> None:
    """Measure the three collections."""
    described = describe_crops(folder, crops=crops)
    features = normalise_rows(described.features)
    photographs = np.repeat(np.arange(len(described.queries)), crops)  # of each row
    half = np.flatnonzero(photographs % 2 == (0 if tune else 1))
    rows = np.sort(np.random.default_rng(0).permutation(half)[:queries])
    asked = features[rows]
    measure("crops", features, asked, [np.array([row]) for row in rows], depth)
    own = [np.flatnonzero(photographs == photographs[row]) for row in rows]
    measure("crops of other photographs", features, asked, own, depth)
    collection = np.concatenate(list(generate_mixtures(features, count=mixed, seed=0)))
    asked = np.concatenate(list(generate_mixtures(features, count=queries, seed=2 if tune else 1)))
    measure("mixed", collection, asked, [np.empty(0, dtype=np.int64)] * queries, depth)


if __name__ == "__main__":
    typer.run(main)
