"""A network small enough for every test, and photos for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from deepterms.features.backbones import Backbone
from deepterms.features.extractor import RMACExtractor
from tests.unit.features.odd_files import photograph


def build_tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=4, padding=1)
    )


@pytest.fixture(scope="package", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and threads that wait for each other on a busy machine cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return Backbone(name="tiny", channels=12, stride=8, sizes=(48, 64), mean=mean, std=std, build=build_tiny)


@pytest.fixture(scope="session")
def tiny_extractor(tiny: Backbone) -> RMACExtractor:
    return RMACExtractor(tiny, weights="random", whitening=None, batch_size=4)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Thirty images of three shapes."""
    folder = tmp_path_factory.mktemp("photos")
    shapes = [(96, 64), (64, 96), (80, 80)]
    paths = []
    for seed in range(30):
        width, height = shapes[seed % 3]
        path = folder / f"{seed:02d}.jpg"
        Image.fromarray(photograph(seed, width=width, height=height)).save(path, quality=95)
        paths.append(path)
    return paths
