"""Measure photographs described per second: one by one in a plain loop, and in same-shape batches decoded ahead.

python benchmarks/extract.py [--backbone resnet101 --weights random]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from deepterms.features import PCAWhitening, RMACExtractor, load_image
from deepterms.features.decoding import Workers

KINDS: tuple[Workers, ...] = ("threads", "processes")
SHAPES = ((1600, 1200), (1200, 1600), (1600, 1067))  # aspect ratios of cameras and phones, scaled down for the web


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of smooth noise in three shapes."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        small = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        path = folder / f"{number:05}.jpg"
        Image.fromarray(small).resize(SHAPES[number % len(SHAPES)], Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def main(
    photos: Annotated[Path | None, typer.Argument(help="Folder of photographs; generated if omitted.")] = None,
    backbone: str = "efficientnet_lite0",
    weights: str = "imagenet",
    count: int = 60,
    rounds: int = 3,
    threads: Annotated[int, typer.Option(help="Threads used by torch.")] = 2,
) -> None:
    """Describe the same photographs in each way and compare the results."""
    torch.set_num_threads(threads)
    shipped = (backbone, weights) == ("efficientnet_lite0", "imagenet")
    whitening: PCAWhitening | Literal["default"] | None = "default" if shipped else None
    ways = {kind: RMACExtractor(backbone, weights=weights, whitening=whitening, decode_in=kind) for kind in KINDS}
    extractor = ways["threads"]

    def describe_plainly(paths: list[Path]) -> NDArray[np.float32]:
        return np.stack([extractor.extract_image(load_image(path)) for path in paths])

    with TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), count) if photos is None else sorted(photos.glob("*.jpg"))[:count]
        contenders: dict[str, Callable[[list[Path]], NDArray[np.float32]]] = {
            "plain loop": describe_plainly,
            **{f"batches, decoded in {kind}": one.extract for kind, one in ways.items()},
        }
        print(f"{len(paths)} photographs, {backbone} at {extractor.sizes}, on {extractor.device}, {threads} threads")
        describe_plainly(paths[:3])  # the first pass through a network takes longer
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        features: dict[str, NDArray[np.float32]] = {}
        for _ in range(rounds):  # alternating, so that a load spike affects all of them
            for name, describe in contenders.items():
                started = time.perf_counter()
                features[name] = describe(paths)
                rates[name].append(len(paths) / (time.perf_counter() - started))
        for name, found in features.items():
            lowest = float(np.einsum("nd,nd->n", found, features["plain loop"]).min())
            print(
                f"  {name:30} {median(rates[name]):7.1f} photographs/s, cosine to the plain loop at least {lowest:.4f}"
            )


if __name__ == "__main__":
    typer.run(main)
