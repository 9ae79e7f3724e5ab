"""Fixtures: the application on a MemoryIndex, with photos on disk and an extractor that needs no network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.features.images import load_image, resize_image
from deepterms.web import create_app
from tests.unit.features.odd_files import photograph

HERE = "http://127.0.0.1"
COUNT = 30
GRID = 4


class GridExtractor:
    """Describes an image by the mean colours of 4 x 4 cells relative to their mean: 48 dimensions."""

    sizes: tuple[int, ...] = (48,)
    side: Literal["min", "max"] = "min"

    def extract_pixels(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        cells = [
            cell.reshape(-1, 3).mean(axis=0)
            for rows in np.array_split(pixels[0], GRID, axis=0)
            for cell in np.array_split(rows, GRID, axis=1)
        ]
        feature: NDArray[np.float32] = np.concatenate(cells).astype(np.float32)
        feature -= feature.mean()
        return feature


def describe(path: Path) -> NDArray[np.float32]:
    """Extract the descriptor of a file in this process."""
    extractor = GridExtractor()
    return extractor.extract_pixels(resize_image(load_image(path), extractor.sizes, side=extractor.side))


def jpeg(seed: int, **shape: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(seed, **shape)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of thirty photos, ten of them in a subfolder."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "more").mkdir()
    for seed in range(COUNT):
        (folder / name_of(seed)).write_bytes(jpeg(seed))
    return folder


def name_of(seed: int) -> str:
    return f"more/{seed:02d}.jpg" if seed % 3 == 0 else f"{seed:02d}.jpg"


@pytest.fixture(scope="session")
def features(photos: Path) -> NDArray[np.float32]:
    """The descriptors of all photos, float32 (30, 48)."""
    return np.stack([describe(photos / name_of(seed)) for seed in range(COUNT)])


@pytest.fixture
def index(photos: Path, features: NDArray[np.float32]) -> dt.MemoryIndex:
    """An index of all photos, with their paths and metadata to filter by."""
    memory = dt.MemoryIndex(dt.DeepPermutation(features.shape[1], top_k=20))
    fill(memory, photos, features)
    return memory


def fill(index: Any, photos: Path, features: NDArray[np.float32]) -> None:
    names = [name_of(seed) for seed in range(COUNT)]
    metadata = [
        {
            "path": str(photos / name),
            "year": 2015 + seed % 4,
            "colour": "red" if seed % 5 == 0 else "blue",
            "price": seed,
        }
        for seed, name in enumerate(names)
    ]
    assert index.add(names, features, metadata).failed == ()


@pytest.fixture
def client(index: dt.MemoryIndex, photos: Path) -> Iterator[TestClient]:
    """A client of the whole application."""
    app = create_app(index, describer=GridExtractor(), photographs=[photos])
    with TestClient(app, base_url=HERE) as client:
        yield client
