"""Load descriptors to benchmark with: crops of real photographs, and any number of mixtures of those.

Real: photographs in packages, each cut into many crops with seeded size, position and mirroring, described by R-MAC on
EfficientNet-lite0 at 224 pixels (1,280 dimensions, with the shipped whitening). Two crops are relevant to each other if
their intersection over union is at least one half.

Mixed: each is the sum of three random real descriptors with exponentially distributed weights, normalised. Its
components are distributed like those of real descriptors, but its nearest neighbours are farther away.

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
class RealDescriptors:
    """Descriptors of the crops.

    Attributes:
        features: float32 (N, D), crops of the collection's photographs, rows L2-normalised.
        queries: float32 (Q, D), one additional crop of each photograph.
        qrels: query → row of the collection → 1, both as decimal numbers; queries without a relevant row are left out.
    """

    features: Features
    queries: Features
    qrels: dict[str, dict[str, int]]


def load_real(folder: Path = DEFAULT_FOLDER) -> RealDescriptors:
    """Describe the collection's crops, or read them from an earlier call; an interrupted call resumes."""
    described = describe_crops(folder)
    return RealDescriptors(
        features=described.features,
        queries=described.queries,
        qrels={str(query): {str(row): 1 for row in rows} for query, rows in described.relevant.items()},
    )


def load_foreign(folder: Path = DEFAULT_FOLDER) -> Features:
    """Load crops of photographs that show no scene of the collection: float32 (F, D)."""
    return describe_crops(folder).foreign


def generate_mixtures(base: Features, *, count: int, seed: int) -> Iterator[Features]:
    """Generate mixtures of rows of `base`, (n, D) at a time; reproducible, and fewer are a prefix of more."""
    yield from MixedFeatures(base, count, seed).blocks()


def load_mixed(base: Features, count: int, folder: Path = DEFAULT_FOLDER) -> NDArray[np.float16]:
    """Memory-map mixtures (count, D) from a file, which is created if missing.

    As float16, two million of them take 5 GB of page cache away from the index under test instead of 10 GB.
    """
    path = folder / f"mixed-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(count, base.shape[1]))
        start = 0
        for rows in generate_mixtures(base, count=count, seed=0):
            array[start : start + len(rows)] = rows
            start += len(rows)
        array.flush()
        partial.replace(path)
    features: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return features


def main(folder: Path = DEFAULT_FOLDER) -> None:
    """Describe the crops and print the mAP of exact cosine."""
    described = load_real(folder)
    scores = described.queries @ described.features.T  # (Q, N)
    run = {
        query: {str(row): float(scores[int(query), row]) for row in np.argsort(-scores[int(query)])[:1_000]}
        for query in described.qrels
    }
    print(
        f"{len(described.features):,} crops of {len(described.queries)} photographs, "
        f"{len(load_foreign(folder)):,} foreign ones; "
        f"mAP of exact cosine, {len(described.qrels)} queries: {mean_average_precision(run, described.qrels):.4f}"
    )


if __name__ == "__main__":
    typer.run(main)
