"""Descriptors to measure with: of crops of real photographs, and mixtures of those in any number.

Real: photographs that packages carry, each cut into many crops of seeded size, place and side, described by R-MAC on
EfficientNet-lite0 at 224 pixels (1,280 dimensions, whitened as shipped). Two crops are relevant to each other if they
share half of what they show together.

Mixed: each is the sum of three real ones, picked at random, with weights drawn from an exponential distribution, and
normalised. It has the real ones' distribution of components, but neighbours that are less near.

python benchmarks/common/descriptors.py            # describes the crops, once: 24,000 of them, 20 to 40 ms each
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray

from deepterms.cache import cache_folder
from deepterms.evaluation import MixedFeatures, mean_average_precision
from deepterms.evaluation.photos.crops import describe_crops

Features: TypeAlias = NDArray[np.float32]
Kind: TypeAlias = Literal["real", "mixed"]

DEFAULT_FOLDER = cache_folder() / "benchmarks"


@dataclass(frozen=True)
class Real:
    """The described crops.

    Attributes:
        features: float32 (N, D), of the collection's photographs, rows L2-normalised.
        queries: float32 (Q, D): one more crop of each of them.
        qrels: query → row of the collection → 1, both as decimal numbers; without the queries that have none.
    """

    features: Features
    queries: Features
    qrels: dict[str, dict[str, int]]


def real(folder: Path = DEFAULT_FOLDER) -> Real:
    """Describes the collection's crops, or reads what an earlier call described; one that was cut goes on."""
    described = describe_crops(folder)
    return Real(
        features=described.features,
        queries=described.queries,
        qrels={str(query): {str(row): 1 for row in rows} for query, rows in described.relevant.items()},
    )


def foreign(folder: Path = DEFAULT_FOLDER) -> Features:
    """Float32 (F, D): crops of photographs that show no scene of the collection."""
    return describe_crops(folder).foreign


def mixtures(base: Features, *, count: int, seed: int) -> Iterator[Features]:
    """Mixtures of rows of `base`, (n, D) at a time; the same for one seed, and more of them begin alike."""
    yield from MixedFeatures(base, count, seed).blocks()


def mixed(base: Features, count: int, folder: Path = DEFAULT_FOLDER) -> NDArray[np.float16]:
    """A memory-mapped (count, D) of mixtures, made on the disk where it is not there yet.

    In float16 two million take five gigabytes of the page cache from the index that is measured, and not ten.
    """
    path = folder / f"mixed-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(count, base.shape[1]))
        start = 0
        for rows in mixtures(base, count=count, seed=0):
            array[start : start + len(rows)] = rows
            start += len(rows)
        array.flush()
        partial.replace(path)
    features: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return features


def main(folder: Path = DEFAULT_FOLDER) -> None:
    """Describe the crops, and say how well exact cosine finds their like."""
    described = real(folder)
    scores = described.queries @ described.features.T  # (Q, N)
    run = {
        query: {str(row): float(scores[int(query), row]) for row in np.argsort(-scores[int(query)])[:1_000]}
        for query in described.qrels
    }
    print(
        f"{len(described.features):,} crops of {len(described.queries)} photographs, "
        f"{len(foreign(folder)):,} foreign ones; "
        f"mAP of exact cosine, {len(described.qrels)} queries: {mean_average_precision(run, described.qrels):.4f}"
    )


if __name__ == "__main__":
    typer.run(main)
