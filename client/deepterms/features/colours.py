"""A decoded picture of any mode into the 8-bit sRGB image that a viewer shows on white paper."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput
from deepterms.optional import require

with require("pillow", "features"):
    from PIL import Image, ImageCms

__all__ = ["convert_to_upright_rgb", "correct_transparency"]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_BITS_TAG, _PHOTOMETRIC_TAG, _MIN_IS_WHITE = 258, 262, 0

MAX_PROFILE_BYTES = 4 << 20  # the largest profiles of printers have 3 MB
# Profiles that shift no colour further are sRGB in all but name, and leave the pixels as they are. Of the levels 0…255.
MAX_SRGB_DIFFERENCE = 3
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


def convert_to_upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded image of any mode upright and convert it to 8-bit sRGB.

    * Transparency is composited on white. A BMP that is transparent everywhere is read as opaque, since most programs
      that write such files leave the alpha channel unset.
    * Colours with an ICC profile are converted from it, unless it is sRGB within 3 levels of 255. A profile that is
      broken, or that describes another kind of colours than the image has, is ignored.
    * 16-bit grey is divided by 257. Other 32-bit integers and floats do not define white. White is the first of 1
      (floats only), 255 and 65535 (integers only) that no value exceeds.

    Raises:
        InvalidInput: a value is NaN or infinite, negative, or larger than every possible white.
    """
    deep = image.mode == "F" or image.mode.startswith("I")
    white, inverted = _describe_depth(image) if deep else (None, False)
    profile = image.info.get("icc_profile")
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")
    image = _apply_orientation(image)
    if deep:
        image = _convert_deep(image, white=white, inverted=inverted)
    if image.mode == "La":
        image = image.convert("LA")  # the only mode that Pillow converts it to
    coloured = _convert_profile(image, profile)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if coloured is not None:
            alpha = rgba.getchannel("A")
            rgba = coloured
            rgba.putalpha(alpha)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if coloured is not None:
        return coloured
    return image if image.mode == "RGB" else image.convert("RGB")


def correct_transparency(image: Image.Image, bits: int) -> None:
    """Scale the transparent colour of a PNG like its samples, which Pillow leaves as stored.

    Args:
        image: an opened PNG, changed in place.
        bits: per sample in the file.
    """
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and bits < 8:
        image.info["transparency"] = key * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bits == 16:  # Pillow keeps the upper 8 bits of 16
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _apply_orientation(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF can raise anything, and the pixels may still be intact
        return image
    if orientation not in _UPRIGHT:
        return image
    upright = image.transpose(_UPRIGHT[orientation])
    # The copy inherits the metadata, which would turn it a second time.
    upright.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return upright


def _describe_depth(image: Image.Image) -> tuple[int | None, bool]:
    """Find the value that is white, if the format defines it, and whether small values are light."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return (4095 if tags.get(_BITS_TAG) == (12,) else 65535), tags.get(_PHOTOMETRIC_TAG) == _MIN_IS_WHITE
    # Pillow reads both as 32-bit integers; PNG only before version 11.
    return (65535 if image.mode == "I" and image.format in ("PPM", "PNG") else None), False


def _convert_deep(image: Image.Image, *, white: int | None, inverted: bool) -> Image.Image:
    """Convert an image with more than 8 bits to mode L, or to LA if it has a transparent colour."""
    values = np.asarray(image)
    levels = _scale_to_8_bits(values, white)
    grey = Image.fromarray(255 - levels if inverted else levels)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _scale_to_8_bits(values: NDArray[Any], white: int | None) -> NDArray[np.uint8]:
    """Scale the values (H, W) of an image with more than 8 bits to 0…255; see `convert_to_upright_rgb`."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("the image has values that are not finite")
    whites = (1, 255) if values.dtype.kind == "f" else (255, 65535)
    white = next((white for white in ([white] if white else whites) if low >= 0 and high <= white), None)
    if white is None:
        raise InvalidInput(
            f"its values range from {low:g} to {high:g}, so black and white are not defined; "
            f"convert it to 8 bits, or to values from 0 to {' or from 0 to '.join(map(str, whites))}"
        )
    if values.dtype.kind == "f":
        return np.rint(values * (255 / white)).astype(np.uint8)
    # Exact for 65535, where it divides by 257 and rounds.
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _convert_profile(image: Image.Image, profile: object) -> Image.Image | None:
    """Convert the colours from their ICC profile to sRGB.

    Returns:
        The colours, mode RGB, without transparency; None if the profile changes nothing or cannot be applied.
    """
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES or image.mode == "LAB":
        return None
    space = "L" if image.mode in _GREY_MODES else "CMYK" if image.mode == "CMYK" else "RGB"
    try:
        transform = _build_transform(profile, space)
        return None if transform is None else _apply_transform(image.convert(space), transform)
    except Exception:  # a broken profile can raise anything, and the pixels are intact
        return None


@lru_cache(maxsize=16)
def _build_transform(profile: bytes, space: str) -> Any:
    """Build the transform from a profile to sRGB, or None if colours stay almost the same.

    Args:
        profile: in the format of the ICC.
        space: the mode of the colours it should describe: L, RGB or CMYK.
    """
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        space,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if space == "CMYK":
        return transform
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(colours if space == "RGB" else colours[..., 0])
    after = np.asarray(_apply_transform(before.copy(), transform), dtype=np.int16)
    largest = np.abs(after - np.asarray(before.convert("RGB"), dtype=np.int16)).max()
    return None if largest <= MAX_SRGB_DIFFERENCE else transform


def _apply_transform(image: Image.Image, transform: Any) -> Image.Image:
    """Convert to sRGB, in place if the image has mode RGB already: another copy of a large one may not fit."""
    converted = ImageCms.applyTransform(image, transform, inPlace=image.mode == "RGB") or image
    converted.info = {}
    return converted
