"""Photos into R-MAC descriptors: decoded ahead, described in batches of equal shape, returned in input order."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput, UnreadableImage, UnreadableImages
from deepterms.features.backbones import Backbone, find_backbone
from deepterms.features.decoding import Decoded, DecodingPool, Workers, decode_file
from deepterms.features.images import DEFAULT_MAX_PIXELS, Pixels, convert_to_upright_rgb, resize_image
from deepterms.features.regions import DEFAULT_LEVELS
from deepterms.features.rmac import combine_regions, combine_sizes, pool_regions
from deepterms.features.whitening import PCAWhitening
from deepterms.optional import require

with require("torch", "features"):
    import torch
    from torch import Tensor
with require("pillow", "features"):
    from PIL import Image

__all__ = ["Extracted", "RMACExtractor"]

DEFAULT_BATCH_SIZE = 16
# Pixels per forward pass. On a CPU the activations should stay in the cache: at 320 pixels an image takes three times
# longer in a batch of 16 than alone. On a GPU memory is the limit: resnet101 keeps about 300 bytes per pixel.
BATCH_PIXELS = {"cpu": 150_000, "cuda": 6_000_000}
# With 281 photos and 1,280 channels, 0 loses up to 0.05 mAP; between 1e-3 and 3e-2 the value makes no difference.
REGULARISATION = 1e-3
CHUNK_BATCHES = 4  # batches decoded together: a larger chunk holds more images of equal shape


@dataclass(frozen=True, eq=False)
class Extracted:
    """The result for one image: either a feature or an error.

    Attributes:
        path: the file, as given.
        feature: float32 (D,), L2-normalised; None after an error.
        error: why there is no feature; None if there is one.
    """

    path: Path
    feature: NDArray[np.float32] | None = None
    error: UnreadableImage | None = None


class RMACExtractor:
    """Describes photos by R-MAC over the feature maps of a network.

    A descriptor depends only on its photo and on `spec()`; batches, threads and order change it by less than 1e-5.
    """

    def __init__(
        self,
        backbone: str | Backbone = "efficientnet_lite0",
        *,
        sizes: Sequence[int] | None = None,
        side: Literal["min", "max"] = "min",
        levels: int = DEFAULT_LEVELS,
        whitening: PCAWhitening | Literal["default"] | None = "default",
        weights: str | Path = "imagenet",
        seed: int = 0,
        device: str | torch.device | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        workers: int | None = None,
        decode_in: Workers = "threads",
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        """Loads the network.

        Args:
            backbone: "efficientnet_lite0", "resnet101", or a Backbone of your own.
            sizes: target lengths of `side`, in pixels; an image is described at each size, and the descriptors are
                summed. By default those of the backbone.
            side: whether `sizes` apply to the shorter ("min") or the longer ("max") side; the aspect ratio is kept.
            levels: scales of the region grid.
            whitening: "default" for the one shipped with the backbone's published weights; None for no whitening.
            weights: "imagenet", "random", or the path of a state dict.
            seed: for random weights.
            device: where the network runs; by default a GPU if there is one.
            batch_size: maximum number of images of equal shape per batch; a CPU uses smaller batches, which are faster.
            workers: files decoded at the same time; by default one per core, at most 8.
            decode_in: "threads", or "processes": slower to start, but a file that kills its decoder is reported like
                any other, and decoding does not compete with the network for Python's interpreter lock. A script must
                then guard its entry point with ``if __name__ == "__main__"``.
            max_pixels: larger images are rejected.
        """
        self.backbone = find_backbone(backbone) if isinstance(backbone, str) else backbone
        self.sizes = tuple(self.backbone.sizes if sizes is None else sizes)
        if not self.sizes or min(self.sizes) < self.backbone.stride:
            raise InvalidInput(
                f"sizes is {self.sizes}; expected at least one, each {self.backbone.stride} pixels or more"
            )
        if side not in {"min", "max"}:
            raise InvalidInput(f"side is {side!r}; expected 'min' or 'max'")
        if min(levels, batch_size, 1 if workers is None else workers) < 1:
            raise InvalidInput(f"levels={levels}, batch_size={batch_size}, workers={workers}: expected 1 or more")
        if decode_in not in {"threads", "processes"}:
            raise InvalidInput(f"decode_in is {decode_in!r}; expected 'threads' or 'processes'")
        self.decode_in = decode_in
        self.side = side
        self.levels = levels
        self.batch_size = batch_size
        self.workers = min(os.cpu_count() or 1, 8) if workers is None else workers
        self.max_pixels = max_pixels
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if whitening == "default":
            whitening = self.backbone.shipped_whitening(weights)
        self._set_whitening(whitening)
        trunk = self.backbone.load(weights, seed=seed)
        self._network = trunk.network.to(self.device)
        self._weights_checksum = trunk.checksum

    def with_whitening(self, whitening: PCAWhitening | None) -> RMACExtractor:
        """Return an extractor with a different whitening that shares this one's network."""
        other = copy.copy(self)
        other._set_whitening(whitening)
        return other

    @property
    def dimensions(self) -> int:
        """Length D of the descriptors."""
        return self.backbone.channels if self.whitening is None else self.whitening.dimensions

    def spec(self) -> dict[str, Any]:
        """Return everything that the descriptors depend on, as plain JSON: equal specs give comparable descriptors."""
        return {
            "extractor": "rmac",
            "backbone": self.backbone.name,
            "weights": self._weights_checksum,
            "sizes": list(self.sizes),
            "side": self.side,
            "levels": self.levels,
            "whitening": None if self.whitening is None else self.whitening.checksum,
            "dimensions": self.dimensions,
        }

    def extract(self, paths: Iterable[str | Path]) -> NDArray[np.float32]:
        """Describe photos.

        Args:
            paths: the files.

        Returns:
            float32 (N, D), rows L2-normalised, in input order.

        Raises:
            UnreadableImages: some cannot be read; raised after all were tried, and lists each of them.
        """
        features, failures = [], []
        for extracted in self.stream(paths):
            if extracted.error is not None:
                failures.append(extracted.error)
            else:
                features.append(extracted.feature)
        if failures:
            raise UnreadableImages(failures)
        return np.array(features, dtype=np.float32).reshape(len(features), self.dimensions)

    def stream(self, paths: Iterable[str | Path]) -> Iterator[Extracted]:
        """Describe photos one by one, in input order, with a bounded number of them in memory.

        A file that cannot be read yields its error and does not stop the others. `paths` is read as needed.
        """
        for chunk in self._decode_chunks(paths):
            features = iter(self._describe([image for _, image in chunk if isinstance(image, tuple)]))
            for path, image in chunk:
                if isinstance(image, UnreadableImage):
                    yield Extracted(path, error=image)
                else:
                    yield _check_descriptor(path, next(features))

    def extract_image(self, image: Image.Image) -> NDArray[np.float32]:
        """Describe one open image: float32 (D,), L2-normalised. Its EXIF orientation is applied."""
        return self.extract_pixels(resize_image(convert_to_upright_rgb(image), self.sizes, side=self.side))

    def extract_pixels(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Describe one image that was decoded and resized elsewhere, such as in another process.

        Args:
            pixels: of the upright image, one uint8 (H, W, 3) per size, as `resize_image` returns them.

        Returns:
            float32 (D,), L2-normalised.

        Raises:
            InvalidInput: the number of arrays differs from the number of sizes.
            UnreadableImage: the descriptor is zero, because the image activates nothing in the network.
        """
        if len(pixels) != len(self.sizes):
            raise InvalidInput(f"pixels has {len(pixels)} arrays; expected one per size, {self.sizes}")
        feature: NDArray[np.float32] = self._describe([tuple(pixels)])[0]
        extracted = _check_descriptor(Path("the image"), feature)
        if extracted.error is not None:
            raise extracted.error
        return feature

    def fit_whitening(
        self, paths: Iterable[str | Path], *, dimensions: int | None = None, regularisation: float = REGULARISATION
    ) -> PCAWhitening:
        """Learn a whitening from the regions of photos; use it through `with_whitening`.

        Args:
            paths: at least several hundred photos, not the ones to be searched.
            dimensions: length of the whitened descriptors; by default the backbone's channels.
            regularisation: see `PCAWhitening.fit`.

        Raises:
            UnreadableImages: some cannot be read; raised after all were tried. Leave them out and fit again.
        """
        failures: list[UnreadableImage] = []
        batches = self._stream_region_vectors(paths, failures)
        whitening = PCAWhitening.fit(batches, dimensions=dimensions, regularisation=regularisation)
        if failures:
            raise UnreadableImages(failures)
        return whitening

    def _stream_region_vectors(
        self, paths: Iterable[str | Path], failures: list[UnreadableImage]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield batches of float32 (B·R, C) from all sizes; append files that cannot be read to `failures`."""
        for chunk in self._decode_chunks(paths):
            failures += [image for _, image in chunk if isinstance(image, UnreadableImage)]
            readable = [image for _, image in chunk if isinstance(image, tuple)]
            for number in range(len(self.sizes)):
                for _, regions in self._pool_regions([image[number] for image in readable]):
                    yield regions.flatten(0, 1).cpu().numpy()

    def _describe(self, images: Sequence[tuple[Pixels, ...]]) -> NDArray[np.float32]:
        """Describe N images, each given at every size: float32 (N, D)."""
        descriptors = torch.zeros(len(self.sizes), len(images), self.dimensions)
        for number in range(len(self.sizes)):
            for places, regions in self._pool_regions([image[number] for image in images]):
                descriptors[number, places] = combine_regions(regions, whitening=self._whitening_tensors).cpu()
        features: NDArray[np.float32] = combine_sizes(descriptors).numpy()
        return features

    def _pool_regions(self, images: Sequence[Pixels]) -> Iterator[tuple[list[int], Tensor]]:
        """Run the network on images of equal shape together; yield their positions and region vectors (B, R, C)."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, pixels in enumerate(images):
            by_shape.setdefault(pixels.shape, []).append(place)
        mean = torch.tensor(self.backbone.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.backbone.std, device=self.device).view(1, 3, 1, 1)
        budget = BATCH_PIXELS.get(self.device.type, BATCH_PIXELS["cuda"])
        for shape, places in by_shape.items():
            step = max(1, min(self.batch_size, budget // (shape[0] * shape[1])))
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                stacked = torch.from_numpy(np.stack([images[place] for place in batch]))
                # A view of (B, H, W, 3) as (B, 3, H, W) is already channels-last.
                inputs = stacked.to(self.device).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
                with torch.inference_mode(), _reproducible(self.device):
                    maps = self._network(inputs)
                    regions = pool_regions(maps, levels=self.levels)
                yield batch, regions

    def _decode_chunks(self, paths: Iterable[str | Path]) -> Iterator[list[tuple[Path, Decoded]]]:
        decode = partial(decode_file, sizes=self.sizes, side=self.side, max_pixels=self.max_pixels)
        with DecodingPool(decode, workers=self.workers, kind=self.decode_in) as pool:
            yield from pool.decode_chunks(paths, size=self.batch_size * CHUNK_BATCHES)

    def _set_whitening(self, whitening: PCAWhitening | None) -> None:
        if whitening is not None and whitening.channels != self.backbone.channels:
            raise InvalidInput(
                f"the whitening has {whitening.channels} channels, but {self.backbone.name} gives "
                f"{self.backbone.channels}; fit one with RMACExtractor.fit_whitening"
            )
        self.whitening = whitening
        self._whitening_tensors = None
        if whitening is not None:
            mean, projection = torch.tensor(whitening.mean), torch.tensor(whitening.projection)
            self._whitening_tensors = (mean.to(self.device), projection.to(self.device))


def _check_descriptor(path: Path, feature: NDArray[np.float32]) -> Extracted:
    """Reject a descriptor without a direction: without whitening, an image may activate nothing in the network."""
    if not np.isfinite(feature).all() or not feature.any():
        return Extracted(path, error=UnreadableImage(path, "the network finds nothing in it: its descriptor is zero"))
    return Extracted(path, feature)


def _reproducible(device: torch.device) -> AbstractContextManager[None]:
    """Disable, on NVIDIA GPUs, TF32 and the search for the fastest algorithm: their results differ between batches."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
