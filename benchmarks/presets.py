"""Measure the recall of each preset: R@10 of MemoryIndex("auto") on mixtures and photograph crops, without a cluster.

python benchmarks/presets.py                  # prints one row of docs/choosing.md per preset
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import typer
from deepterms.encoders.presets import PresetName

import deepterms as dt
from common.descriptors import DEFAULT_FOLDER, Features, generate_mixtures, load_mixed, load_real

ADDED = 2_000


def main(folder: Path = DEFAULT_FOLDER, queries: int = 100) -> None:
    """Fill an index per preset, search it, and compare with exact search."""
    described = load_real(folder)
    crops = described.features
    some = np.random.default_rng(0).permutation(len(crops))[:4_000]
    hard = np.concatenate(list(generate_mixtures(crops, count=queries, seed=1)))
    easy = described.queries[:queries]
    rows = load_mixed(crops, 100_000, folder)[:30_000].astype(np.float32)
    collections = [(f"{count:,} mixtures", rows[:count], hard) for count in (1_000, 3_000, 10_000, 30_000)]
    collections += [("4,000 crops", crops[some], easy), (f"{len(crops):,} crops", crops, easy)]
    print("|  | " + " | ".join(name for name, _, _ in collections) + " |")
    for preset in get_args(PresetName):
        found = [measure_recall(features, asked, preset) for _, features, asked in collections]
        print(f"| `{preset}` | " + " | ".join(f"{share:.3f}" for share in found) + " |", flush=True)


def measure_recall(features: Features, queries: Features, preset: PresetName) -> float:
    """Measure the share of the ten nearest documents by exact cosine that are among the first ten hits."""
    index = dt.MemoryIndex("auto", features=features, preset=preset)
    for start in range(0, len(features), ADDED):
        piece = features[start : start + ADDED]
        index.add([str(start + row) for row in range(len(piece))], piece)
    best = np.argsort(-(queries @ features.T), axis=1)[:, :10]
    shares = [
        len({str(row) for row in near.tolist()}.intersection(index.search(query).ids)) / 10
        for query, near in zip(queries, best, strict=True)
    ]
    return float(np.mean(shares))


if __name__ == "__main__":
    typer.run(main)
