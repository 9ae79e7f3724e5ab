"""Turn a photograph into another view of it, reproducibly: crop, rotation, JPEG artefacts, brightness and so on."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TRANSFORMS"]


def _crop(photograph: Image.Image, chance: random.Random) -> Image.Image:
    width, height = photograph.size
    share = chance.uniform(0.6, 0.75)  # of each side
    left = chance.uniform(0, 1 - share)
    top = chance.uniform(0, 1 - share)
    return photograph.crop(
        (round(left * width), round(top * height), round((left + share) * width), round((top + share) * height))
    )


def _rotation(photograph: Image.Image, chance: random.Random) -> Image.Image:
    from PIL.Image import Resampling

    degrees = chance.choice((-1, 1)) * chance.uniform(5, 12)
    turned = photograph.rotate(degrees, resample=Resampling.BICUBIC)
    # The largest upright rectangle of the same aspect ratio that contains no empty corner.
    width, height = photograph.size
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    share = 1 / (cosine + sine * max(width / height, height / width))
    across, down = (1 - share) * width / 2, (1 - share) * height / 2
    return turned.crop((math.ceil(across), math.ceil(down), math.floor(width - across), math.floor(height - down)))


def _jpeg(photograph: Image.Image, chance: random.Random) -> Image.Image:
    from PIL import Image

    coarse = io.BytesIO()
    small = photograph.resize((max(1, photograph.width // 2), max(1, photograph.height // 2)))
    small.save(coarse, "JPEG", quality=chance.randint(8, 15))
    return Image.open(coarse).convert("RGB").resize(photograph.size)


def _brightness(photograph: Image.Image, chance: random.Random) -> Image.Image:
    from PIL import ImageEnhance

    factor = chance.choice((chance.uniform(0.45, 0.6), chance.uniform(1.5, 1.8)))
    faded = ImageEnhance.Color(photograph).enhance(chance.uniform(0.5, 0.8))
    return ImageEnhance.Brightness(faded).enhance(factor)


def _mirror(photograph: Image.Image, chance: random.Random) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.mirror(photograph)


def _perspective(photograph: Image.Image, chance: random.Random) -> Image.Image:
    from PIL.Image import Resampling, Transform

    # Stretch a quadrilateral inside the photograph to the whole frame, so that nothing outside becomes visible.
    quadrilateral = [
        size * abs(end - chance.uniform(0.02, 0.18))
        for corner in ((0, 0), (0, 1), (1, 1), (1, 0))
        for size, end in zip(photograph.size, corner, strict=True)
    ]
    return photograph.transform(photograph.size, Transform.QUAD, quadrilateral, resample=Resampling.BICUBIC)


TRANSFORMS: Mapping[str, Callable[[Image.Image, random.Random], Image.Image]] = MappingProxyType(
    {
        "brightness": _brightness,
        "crop": _crop,
        "jpeg": _jpeg,
        "mirror": _mirror,
        "perspective": _perspective,
        "rotation": _rotation,
    }
)
"""Name → function that takes an RGB photograph and a seeded generator and returns a new RGB image."""
