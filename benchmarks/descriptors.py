"""Descriptors to measure with: of crops of real photographs, and mixtures of those in any number.

Real: photographs that packages carry, each cut into many crops of seeded size, place and side, described by R-MAC on
EfficientNet-lite0 at 224 pixels (1,280 dimensions, whitened as shipped). Two crops are relevant to each other if they
share half of what they show together.

Mixed: each is the sum of `PARTS` real ones, picked at random, with weights drawn from an exponential distribution, and
normalised. It has the real ones' distribution of components, but neighbours that are less near.

python benchmarks/descriptors.py            # describes the crops, once: 24,000 of them, 20 to 40 ms each
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray

from deepterms.cache import cache_folder
from deepterms.evaluation import build_photos, mean_average_precision, training_photos
from deepterms.evaluation.photo_manifest import read_manifest
from deepterms.vectors import normalise_rows

if TYPE_CHECKING:
    from PIL import Image

    from deepterms.features import RMACExtractor

Features: TypeAlias = NDArray[np.float32]
Kind: TypeAlias = Literal["real", "mixed"]

SEED = 2018
CROPS = 48  # of a photograph, and one more for the query
SIDES = (0.25, 0.75)  # of the photograph's; a crop's two sides differ by a quarter at most
RELEVANT = 0.5  # intersection over union
PARTS = 3
CHUNK = 8_192  # rows made at once
DEFAULT_FOLDER = cache_folder() / "benchmarks"


@dataclass(frozen=True)
class Crop:
    """A part of a photograph: left, top, right, bottom in shares of its sides, and whether it is mirrored."""

    box: tuple[float, float, float, float]
    mirrored: bool

    def overlap(self, other: Crop) -> float:
        """Intersection over union, 0…1."""
        left, top = (max(self.box[i], other.box[i]) for i in (0, 1))
        right, bottom = (min(self.box[i], other.box[i]) for i in (2, 3))
        both = max(0.0, right - left) * max(0.0, bottom - top)
        return both / (self.area + other.area - both)

    @property
    def area(self) -> float:
        """Share of the photograph."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def cut(self, photograph: Image.Image) -> Image.Image:
        """The pixels."""
        from PIL import ImageOps

        width, height = photograph.size
        left, top, right, bottom = self.box
        part = photograph.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        return ImageOps.mirror(part) if self.mirrored else part


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


def crops_of(photograph: int) -> list[Crop]:
    """The crops of the photograph of that number; the last is its query."""
    rng = np.random.default_rng([SEED, photograph])
    crops = []
    for _ in range(CROPS + 1):
        side = rng.uniform(*SIDES)
        width, height = (min(1.0, side * rng.uniform(0.875, 1.125)) for _ in range(2))
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        crops.append(Crop((left, top, left + width, top + height), bool(rng.random() < 0.5)))
    return crops


def photographs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs of the collection, and others that show no scene of it; none of them made from another."""
    collection = build_photos(folder / "photographs")
    training = training_photos(folder / "training")
    views = {f"{group.number}{view:02d}" for group in read_manifest().groups for view in range(len(group.photographs))}
    originals = [path for path in collection.paths if path.stem in views]
    return originals + training[::2], training[1::2]


def real(folder: Path = DEFAULT_FOLDER) -> Real:
    """Describes the collection's crops, or reads what an earlier call described; one that was cut goes on."""
    ours, _ = photographs(folder)
    described = [_described(path, number, folder / "crops") for number, path in enumerate(ours)]  # (CROPS + 1, D) each
    qrels: dict[str, dict[str, int]] = {}
    for number in range(len(ours)):
        *crops, query = crops_of(number)
        relevant = {
            str(number * CROPS + place): 1 for place, crop in enumerate(crops) if crop.overlap(query) >= RELEVANT
        }
        if relevant:
            qrels[str(number)] = relevant
    return Real(
        features=np.concatenate([features[:CROPS] for features in described]),
        queries=np.stack([features[CROPS] for features in described]),
        qrels=qrels,
    )


def foreign(folder: Path = DEFAULT_FOLDER) -> Features:
    """Float32 (F, D): crops of photographs that show no scene of the collection."""
    ours, others = photographs(folder)
    return np.concatenate([_described(path, number, folder / "crops") for number, path in enumerate(others, len(ours))])


def _described(path: Path, number: int, folder: Path) -> Features:
    cached = folder / f"{number:04d}-{path.stem}.npy"
    if not cached.exists():
        from PIL import Image

        extractor = _extractor()
        with Image.open(path) as opened:
            photograph = opened.convert("RGB")
        features = np.stack([extractor.extract_image(crop.cut(photograph)) for crop in crops_of(number)])
        folder.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(".partial.npy")
        np.save(partial, features)
        partial.replace(cached)
    stored: Features = np.load(cached)
    return stored


@cache
def _extractor() -> RMACExtractor:
    import torch

    from deepterms.features import RMACExtractor

    torch.set_num_threads(1)  # a picture this small is not worth two, and other work goes on beside
    return RMACExtractor("efficientnet_lite0", sizes=(224,))


def mixtures(base: Features, *, count: int, seed: int) -> Iterator[Features]:
    """Mixtures of rows of `base`, (n, D) at a time; the same for one seed, and more of them begin alike."""
    for chunk, start in enumerate(range(0, count, CHUNK)):
        rng = np.random.default_rng([SEED, seed, chunk])
        picked = rng.integers(0, len(base), (CHUNK, PARTS))
        weights = rng.exponential(size=(CHUNK, PARTS)).astype(np.float32)
        rows = min(CHUNK, count - start)
        mixed = np.zeros((rows, base.shape[1]), dtype=np.float32)
        for part in range(PARTS):
            mixed += weights[:rows, part, np.newaxis] * base[picked[:rows, part]]
        yield normalise_rows(mixed)


def mixed(base: Features, count: int, folder: Path = DEFAULT_FOLDER) -> Features:
    """A memory-mapped float32 (count, D) of mixtures, made on the disk where it is not there yet."""
    path = folder / f"mixed-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(count, base.shape[1]))
        start = 0
        for rows in mixtures(base, count=count, seed=0):
            array[start : start + len(rows)] = rows
            start += len(rows)
        array.flush()
        partial.replace(path)
    features: Features = np.load(path, mmap_mode="r")
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
