"""Photographs into R-MAC descriptors: decoded ahead, described in batches of equal shape, in the order given."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput, MissingExtra, UnreadableImage, UnreadableImages
from deepterms.features.backbones import Backbone, find_backbone
from deepterms.features.decoding import Decoded, Decoder, Workers, decoded_chunks
from deepterms.features.images import DEFAULT_MAX_PIXELS, Pixels, resized_pixels, upright_rgb
from deepterms.features.regions import DEFAULT_LEVELS
from deepterms.features.rmac import combine_regions, combine_sizes, region_vectors
from deepterms.features.whitening import PCAWhitening

try:
    import torch
    from PIL import Image
    from torch import Tensor
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "torch", "features") from error

__all__ = ["Extracted", "RMACExtractor"]

DEFAULT_BATCH_SIZE = 16
# Pixels of a forward pass. On a CPU the activations should stay in the cache: at 320 pixels a picture takes three times
# longer in a batch of 16 than alone. On a GPU memory counts: resnet101 keeps about 300 bytes a pixel.
BATCH_PIXELS = {"cpu": 150_000, "cuda": 6_000_000}
# Of 281 photographs and 1,280 channels, 0 loses up to 0.05 mAP; from 1e-3 to 3e-2 it makes no difference.
REGULARISATION = 1e-3
CHUNK_BATCHES = 4  # pictures decoded together: equal shapes meet more often than in a single batch


@dataclass(frozen=True, eq=False)
class Extracted:
    """What became of one picture: exactly one of feature and error is given.

    Attributes:
        path: the file, as given.
        feature: float32 (D,), L2-normalised.
        error: why there is none.
    """

    path: Path
    feature: NDArray[np.float32] | None = None
    error: UnreadableImage | None = None


class RMACExtractor:
    """Describes photographs by R-MAC over the feature maps of a network.

    A descriptor depends on its photograph and on `spec()` only; batches, threads and order change it by less than 1e-5.
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
            sizes: lengths in pixels to which `side` is brought; a picture is described at each, and the descriptors
                are summed. The backbone's own by default.
            side: which side `sizes` speak of: the shorter or the longer one; the aspect is kept.
            levels: scales of the region grid.
            whitening: "default" is the one shipped for the backbone's published weights; None leaves it out.
            weights: "imagenet", "random", or the path of a state dict.
            seed: of random weights.
            device: of the network; a GPU where there is one.
            batch_size: pictures of equal shape described together at most; fewer on a CPU, where that is faster.
            workers: files decoded at once; by default one a core, at most 8.
            decode_in: "threads", or "processes": slower to start, but a file that kills its decoder is reported like
                any other, and nothing of Python's waits for the network. A script then has its calls under
                ``if __name__ == "__main__"``.
            max_pixels: larger pictures are refused.
        """
        self.backbone = find_backbone(backbone) if isinstance(backbone, str) else backbone
        self.sizes = tuple(self.backbone.sizes if sizes is None else sizes)
        if not self.sizes or min(self.sizes) < self.backbone.stride:
            raise InvalidInput(f"sizes is {self.sizes}; expected one or more of {self.backbone.stride} pixels or more")
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
        """The same extractor, sharing its network, with another whitening."""
        other = copy.copy(self)
        other._set_whitening(whitening)
        return other

    @property
    def dimensions(self) -> int:
        """Length D of the descriptors."""
        return self.backbone.channels if self.whitening is None else self.whitening.dimensions

    def spec(self) -> dict[str, Any]:
        """What the descriptors depend on, as plain JSON: descriptors of equal specs can be compared."""
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
        """Describes photographs.

        Args:
            paths: the files.

        Returns:
            float32 (N, D), rows L2-normalised, in the order given.

        Raises:
            UnreadableImages: after all were tried; it lists each one that cannot be read.
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
        """Describes photographs one after the other, in the order given, holding a bounded number of them.

        A file that cannot be read gives its error in its place and stops nothing. `paths` is read as needed.
        """
        for chunk in self._decoded_chunks(paths):
            features = iter(self._describe([picture for _, picture in chunk if isinstance(picture, tuple)]))
            for path, picture in chunk:
                if isinstance(picture, UnreadableImage):
                    yield Extracted(path, error=picture)
                else:
                    yield _checked(path, next(features))

    def extract_image(self, image: Image.Image) -> NDArray[np.float32]:
        """Describes one picture that is already open; float32 (D,), L2-normalised. Its EXIF orientation is applied."""
        return self.extract_pixels(self._resized(upright_rgb(image)))

    def extract_pixels(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Describes one picture that was decoded and resized elsewhere, as in another process.

        Args:
            pixels: of the upright picture, one uint8 (H, W, 3) for each of `sizes`: `resized_pixels` makes them.

        Returns:
            float32 (D,), L2-normalised.

        Raises:
            InvalidInput: not as many arrays as there are sizes.
            UnreadableImage: the network sees nothing in it.
        """
        if len(pixels) != len(self.sizes):
            raise InvalidInput(f"expected one array of pixels for each of the sizes {self.sizes}; got {len(pixels)}")
        feature: NDArray[np.float32] = self._describe([tuple(pixels)])[0]
        extracted = _checked(Path("the picture"), feature)
        if extracted.error is not None:
            raise extracted.error
        return feature

    def fit_whitening(
        self, paths: Iterable[str | Path], *, dimensions: int | None = None, regularisation: float = REGULARISATION
    ) -> PCAWhitening:
        """Learns a whitening from the regions of photographs; use it through `with_whitening`.

        Args:
            paths: photographs unlike those that will be searched; several hundred at least.
            dimensions: length of the whitened descriptors; the backbone's channels by default.
            regularisation: see `PCAWhitening.fit`.

        Raises:
            UnreadableImages: after all were tried; leave those out and fit again.
        """
        failures: list[UnreadableImage] = []
        batches = self._region_vectors(paths, failures)
        whitening = PCAWhitening.fit(batches, dimensions=dimensions, regularisation=regularisation)
        if failures:
            raise UnreadableImages(failures)
        return whitening

    def _region_vectors(
        self, paths: Iterable[str | Path], failures: list[UnreadableImage]
    ) -> Iterator[NDArray[np.float32]]:
        """Batches of float32 (B·R, C), all sizes alike; what cannot be read is appended to `failures`."""
        for chunk in self._decoded_chunks(paths):
            failures += [picture for _, picture in chunk if isinstance(picture, UnreadableImage)]
            readable = [picture for _, picture in chunk if isinstance(picture, tuple)]
            for number in range(len(self.sizes)):
                for _, regions in self._regions([picture[number] for picture in readable]):
                    yield regions.flatten(0, 1).cpu().numpy()

    def _describe(self, pictures: Sequence[tuple[Pixels, ...]]) -> NDArray[np.float32]:
        """Each picture at each size → float32 (N, D)."""
        descriptors = torch.zeros(len(self.sizes), len(pictures), self.dimensions)
        for number in range(len(self.sizes)):
            for places, regions in self._regions([picture[number] for picture in pictures]):
                descriptors[number, places] = combine_regions(regions, whitening=self._whitening_tensors).cpu()
        features: NDArray[np.float32] = combine_sizes(descriptors).numpy()
        return features

    def _regions(self, pictures: Sequence[Pixels]) -> Iterator[tuple[list[int], Tensor]]:
        """Runs the network on pictures of equal shape together; gives their places and region vectors (B, R, C)."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, pixels in enumerate(pictures):
            by_shape.setdefault(pixels.shape, []).append(place)
        mean = torch.tensor(self.backbone.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.backbone.std, device=self.device).view(1, 3, 1, 1)
        budget = BATCH_PIXELS.get(self.device.type, BATCH_PIXELS["cuda"])
        for shape, places in by_shape.items():
            step = max(1, min(self.batch_size, budget // (shape[0] * shape[1])))
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                stacked = torch.from_numpy(np.stack([pictures[place] for place in batch]))
                # A view of (B, H, W, 3) as (B, 3, H, W) is already channels-last.
                inputs = stacked.to(self.device).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
                with torch.inference_mode(), _reproducible(self.device):
                    maps = self._network(inputs)
                    regions = region_vectors(maps, levels=self.levels)
                yield batch, regions

    def _decoded_chunks(self, paths: Iterable[str | Path]) -> Iterator[list[tuple[Path, Decoded]]]:
        """Decodes one chunk ahead of the one that is being described."""
        return decoded_chunks(
            paths,
            Decoder(self.sizes, self.side, self.max_pixels),
            size=self.batch_size * CHUNK_BATCHES,
            workers=self.workers,
            kind=self.decode_in,
        )

    def _resized(self, picture: Image.Image) -> tuple[Pixels, ...]:
        return resized_pixels(picture, self.sizes, side=self.side)

    def _set_whitening(self, whitening: PCAWhitening | None) -> None:
        if whitening is not None and whitening.channels != self.backbone.channels:
            raise InvalidInput(
                f"the whitening takes {whitening.channels} channels, {self.backbone.name} gives "
                f"{self.backbone.channels}; fit one with RMACExtractor.fit_whitening"
            )
        self.whitening = whitening
        self._whitening_tensors = None
        if whitening is not None:
            mean, projection = torch.tensor(whitening.mean), torch.tensor(whitening.projection)
            self._whitening_tensors = (mean.to(self.device), projection.to(self.device))


def _checked(path: Path, feature: NDArray[np.float32]) -> Extracted:
    """Refuses a descriptor that no similarity is defined for: without whitening a picture may activate nothing."""
    if not np.isfinite(feature).all() or not feature.any():
        return Extracted(path, error=UnreadableImage(path, "the network sees nothing in it: its descriptor is zero"))
    return Extracted(path, feature)


def _reproducible(device: torch.device) -> AbstractContextManager[None]:
    """On NVIDIA GPUs: no TF32 and no search for the fastest algorithm, either of which differs with the batch."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
