"""Photographs that packages carry, cut into many views each: a collection of thousands of real descriptors.

Each photograph is cut into crops of seeded size, place and side; one more crop is a query. A crop is right for a query
if they share half of what they show together. Described by R-MAC on EfficientNet-lite0 at 224 pixels (1,280 dimensions,
whitened as shipped), which takes 20 to 40 ms a crop, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.evaluation.judged_features import JudgedFeatures
from deepterms.evaluation.photos.collection import build_photos, training_photos
from deepterms.evaluation.photos.manifest import read_manifest
from deepterms.evaluation.streams import ArrayFeatures

if TYPE_CHECKING:
    from PIL import Image

    from deepterms.features import RMACExtractor

__all__ = ["MAX_CROPS", "Crop", "DescribedCrops", "crops_of", "describe_crops"]

SEED = 2018
MAX_CROPS = 48  # of a photograph, and one more for the query
SIDES = (0.25, 0.75)  # of the photograph's; a crop's two sides differ by a quarter at most
RELEVANT = 0.5  # intersection over union


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


@dataclass(frozen=True, eq=False)
class DescribedCrops:
    """The crops of two sets of photographs that show nothing in common.

    Attributes:
        features: float32 (N, D), of the collection's photographs, `crops` rows each.
        queries: float32 (P, D): one more crop of each of them.
        relevant: photograph → rows that are right for its query; without the queries that have none.
        foreign: float32 (F, D), crops of the other photographs.
    """

    features: NDArray[np.float32]
    queries: NDArray[np.float32]
    relevant: dict[int, NDArray[np.int64]]
    foreign: NDArray[np.float32]

    def collection(self) -> JudgedFeatures:
        """The queries that have an answer, and all crops."""
        asked = sorted(self.relevant)
        return JudgedFeatures(
            "crops of package photographs",
            self.queries[asked],
            ArrayFeatures(self.features),
            relevant=tuple(self.relevant[photograph] for photograph in asked),
            junk=tuple(np.empty(0, dtype=np.int64) for _ in asked),
        )


def crops_of(photograph: int) -> list[Crop]:
    """The crops of the photograph of that number; the last is its query."""
    rng = np.random.default_rng([SEED, photograph])
    crops = []
    for _ in range(MAX_CROPS + 1):
        side = rng.uniform(*SIDES)
        width, height = (min(1.0, side * rng.uniform(0.875, 1.125)) for _ in range(2))
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        crops.append(Crop((left, top, left + width, top + height), bool(rng.random() < 0.5)))
    return crops


def describe_crops(
    folder: Path, *, crops: int = MAX_CROPS, on_progress: Callable[[int, int, str], None] = lambda *_: None
) -> DescribedCrops:
    """Describe the crops, or read what an earlier call described; one that was cut goes on.

    Args:
        folder: for photographs and descriptors.
        crops: of each photograph, the first ones of the same list.
        on_progress: called with the photographs described, how many there are, and the next one's name.

    Raises:
        InvalidInput: not 1 to 48 crops.
        MissingExtra: torch or the network is not installed.
        PackageUnavailable: none of the packages with photographs can be had.
    """
    if not 1 <= crops <= MAX_CROPS:
        raise InvalidInput(f"crops is {crops}; expected 1 to {MAX_CROPS}")
    ours, others = _photographs(folder)
    paths = [*ours, *others]
    described = []  # (crops + 1, D) each
    for number, path in enumerate(paths):
        on_progress(number, len(paths), path.name)
        described.append(_described(path, number, folder / "crops", crops))
    on_progress(len(paths), len(paths), "")
    relevant: dict[int, NDArray[np.int64]] = {}
    for number in range(len(ours)):
        *cut, query = crops_of(number)
        right = [place for place, crop in enumerate(cut[:crops]) if crop.overlap(query) >= RELEVANT]
        if right:
            relevant[number] = number * crops + np.array(right)
    return DescribedCrops(
        features=np.concatenate([features[:-1] for features in described[: len(ours)]]),
        queries=np.stack([features[-1] for features in described[: len(ours)]]),
        relevant=relevant,
        foreign=np.concatenate(described[len(ours) :]),
    )


def _photographs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs of the collection, and others that show no scene of it; none of them made from another."""
    collection = build_photos(folder / "photographs")
    training = training_photos(folder / "training")
    views = {f"{group.number}{view:02d}" for group in read_manifest().groups for view in range(len(group.photographs))}
    originals = [path for path in collection.paths if path.stem in views]
    return originals + training[::2], training[1::2]


def _described(path: Path, number: int, folder: Path, crops: int) -> NDArray[np.float32]:
    """Descriptors of the first crops and of the query: (crops + 1, D)."""
    rows = [*range(crops), MAX_CROPS]
    whole, part = folder / f"{number:04d}-{path.stem}.npy", folder / f"{number:04d}-{path.stem}-{crops}.npy"
    if not whole.exists() and not part.exists():
        cut = crops_of(number)
        _describe(path, [cut[row] for row in rows], whole if crops == MAX_CROPS else part)
    features: NDArray[np.float32] = np.load(whole)[rows] if whole.exists() else np.load(part)
    return features


def _describe(path: Path, crops: Sequence[Crop], file: Path) -> None:
    from PIL import Image

    extractor = _extractor()
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    features = np.stack([extractor.extract_image(crop.cut(photograph)) for crop in crops])
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npy")
    np.save(partial, features)
    partial.replace(file)


@cache
def _extractor() -> RMACExtractor:
    import torch

    from deepterms.features import RMACExtractor

    torch.set_num_threads(1)  # a picture this small is not worth two, and other work goes on beside
    return RMACExtractor("efficientnet_lite0", sizes=(224,))
