"""Turn package photographs into many crops each, for a collection of thousands of real descriptors.

Each photograph is cut into crops with seeded size, position and mirroring, plus one crop that serves as a query. A crop
is relevant to the query if their intersection over union is at least one half. Descriptors are R-MAC on
EfficientNet-lite0 at 224 pixels (1,280 dimensions, with the shipped whitening), which takes 20 to 40 ms per crop, once.
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

__all__ = ["MAX_CROPS", "Crop", "DescribedCrops", "describe_crops", "sample_crops"]

SEED = 2018
MAX_CROPS = 48  # per photograph, plus one for the query
SIDES = (0.25, 0.75)  # range of a crop's side as a share of the photograph's; its two sides differ by at most a quarter
MIN_OVERLAP = 0.5  # intersection over union from which a crop is relevant


@dataclass(frozen=True)
class Crop:
    """A region of a photograph.

    Attributes:
        box: left, top, right and bottom as shares of the photograph's sides.
        is_mirrored: whether it is flipped horizontally.
    """

    box: tuple[float, float, float, float]
    is_mirrored: bool

    def measure_overlap(self, other: Crop) -> float:
        """Compute the intersection over union, 0…1."""
        left, top = (max(self.box[i], other.box[i]) for i in (0, 1))
        right, bottom = (min(self.box[i], other.box[i]) for i in (2, 3))
        both = max(0.0, right - left) * max(0.0, bottom - top)
        return both / (self.area + other.area - both)

    @property
    def area(self) -> float:
        """Area as a share of the photograph."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def cut(self, photograph: Image.Image) -> Image.Image:
        """Cut the crop out of the photograph."""
        from PIL import ImageOps

        width, height = photograph.size
        left, top, right, bottom = self.box
        part = photograph.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        return ImageOps.mirror(part) if self.is_mirrored else part


@dataclass(frozen=True, eq=False)
class DescribedCrops:
    """Descriptors of crops from two sets of photographs with no scene in common.

    Attributes:
        features: float32 (N, D), crops of the collection's P photographs, `crops` rows each.
        queries: float32 (P, D), one additional crop of each of these photographs.
        relevant: photograph → rows relevant to its query; photographs without any are left out.
        foreign: float32 (F, D), crops of the other photographs.
    """

    features: NDArray[np.float32]
    queries: NDArray[np.float32]
    relevant: dict[int, NDArray[np.int64]]
    foreign: NDArray[np.float32]

    def to_judged_features(self) -> JudgedFeatures:
        """Combine the queries that have a relevant crop with all crops."""
        asked = sorted(self.relevant)
        return JudgedFeatures(
            "crops of package photographs",
            self.queries[asked],
            ArrayFeatures(self.features),
            relevant=tuple(self.relevant[photograph] for photograph in asked),
            junk=tuple(np.empty(0, dtype=np.int64) for _ in asked),
        )


def sample_crops(photograph: int) -> list[Crop]:
    """Draw the crops of a photograph, given its number as a seed; the last crop is its query."""
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
    """Extract the descriptors of the crops, or read them from an earlier call; an interrupted call resumes.

    Args:
        folder: for photographs and descriptors.
        crops: per photograph, 1 to 48: the first ones of a fixed list.
        on_progress: called with the number of photographs done, the total, and the name of the next one.

    Raises:
        InvalidInput: `crops` is out of range.
        MissingExtra: torch or the network is not installed.
        PackageUnavailable: none of the packages with photographs is available.
    """
    if not 1 <= crops <= MAX_CROPS:
        raise InvalidInput(f"crops is {crops}; expected 1 to {MAX_CROPS}")
    ours, others = _build_photographs(folder)
    paths = [*ours, *others]
    described = []  # (crops + 1, D) each
    for number, path in enumerate(paths):
        on_progress(number, len(paths), path.name)
        described.append(_read_or_describe(path, number, folder / "crops", crops))
    on_progress(len(paths), len(paths), "")
    relevant: dict[int, NDArray[np.int64]] = {}
    for number in range(len(ours)):
        *cut, query = sample_crops(number)
        right = [place for place, crop in enumerate(cut[:crops]) if crop.measure_overlap(query) >= MIN_OVERLAP]
        if right:
            relevant[number] = number * crops + np.array(right)
    return DescribedCrops(
        features=np.concatenate([features[:-1] for features in described[: len(ours)]]),
        queries=np.stack([features[-1] for features in described[: len(ours)]]),
        relevant=relevant,
        foreign=np.concatenate(described[len(ours) :]),
    )


def _build_photographs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Build the collection's photographs and others that show none of its scenes; generated views are left out."""
    collection = build_photos(folder / "photographs")
    training = training_photos(folder / "training")
    views = {f"{group.number}{view:02d}" for group in read_manifest().groups for view in range(len(group.photographs))}
    originals = [path for path in collection.paths if path.stem in views]
    return originals + training[::2], training[1::2]


def _read_or_describe(path: Path, number: int, folder: Path, crops: int) -> NDArray[np.float32]:
    """Return the descriptors of the first crops and of the query: float32 (crops + 1, D)."""
    rows = [*range(crops), MAX_CROPS]
    whole, part = folder / f"{number:04d}-{path.stem}.npy", folder / f"{number:04d}-{path.stem}-{crops}.npy"
    if not whole.exists() and not part.exists():
        cut = sample_crops(number)
        _describe(path, [cut[row] for row in rows], whole if crops == MAX_CROPS else part)
    features: NDArray[np.float32] = np.load(whole)[rows] if whole.exists() else np.load(part)
    return features


def _describe(path: Path, crops: Sequence[Crop], file: Path) -> None:
    from PIL import Image

    extractor = _load_extractor()
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    features = np.stack([extractor.extract_image(crop.cut(photograph)) for crop in crops])
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npy")
    np.save(partial, features)
    partial.replace(file)


@cache
def _load_extractor() -> RMACExtractor:
    import torch

    from deepterms.features import RMACExtractor

    torch.set_num_threads(1)  # images this small gain nothing from a second thread
    return RMACExtractor("efficientnet_lite0", sizes=(224,))
