"""Image files into upright 8-bit RGB images, or into the reason why they cannot be read.

Whatever a file contains, it either gives an image or raises UnreadableImage. Decoding works as follows:

* the EXIF (or XMP) orientation is applied; damaged metadata is ignored;
* transparency is composited on white; an animation gives its first frame;
* 16-bit grey is scaled from 0…65535; for 32-bit integers and floats see `convert_to_upright_rgb`;
* CMYK, grey, palette and YCbCr are converted without colour profiles, which make no difference to descriptors.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput, TooManyPixels, UnreadableImage
from deepterms.optional import require

with require("pillow", "features"):
    from PIL import Image, ImageFile

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SUFFIXES",
    "Pixels",
    "convert_to_upright_rgb",
    "decode_image",
    "find_images",
    "load_image",
    "resize_image",
    "scale_shape",
]

Pixels = NDArray[np.uint8]  # (H, W, 3)

DEFAULT_MAX_PIXELS = 250_000_000  # accepts a 200-megapixel phone photo; up to 1 GB of memory while decoding
MAX_ASPECT = 8  # beyond 1:8 the long side is squeezed: a 1 x 10000 strip would become 224 x 2240000

# Formats of photos only, regardless of the suffix: Pillow would run Ghostscript on EPS, and accept noise as TGA.
# HEIF works if the caller has registered a plugin for it.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO", "JPEG2000", "AVIF", "HEIF", "PPM")
SUFFIXES = frozenset(
    f".{name}"
    for names in ("jpg jpeg jpe jfif mpo jp2 j2k", "png apng webp avif heic heif gif", "tif tiff bmp ppm pgm pnm")
    for name in names.split()
)
# A JPEG is decoded to at least twice the requested side, then reduced with a better filter. Cosine with the descriptor
# of the full image: 0.96 when decoded to the side itself, 0.999 when decoded to twice the side.
DRAFT_GAP = 2

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
_PILLOW_REMARKS = ("ignore", None, UserWarning, re.compile(r"PIL\."), 0)


def load_image(path: str | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int | None = None) -> Image.Image:
    """Decode one image.

    Args:
        path: the file.
        max_pixels: an image whose header announces more is rejected before it is decoded.
        min_side: the side length, in pixels, that it will be reduced to. A JPEG is then decoded at 1/2, 1/4 or 1/8 of
            its size, if both sides stay at least twice as long: several times faster for large images.

    Returns:
        The upright image, mode RGB.

    Raises:
        UnreadableImage: it cannot be decoded, or is rejected; the message says why.
    """
    try:
        _check_regular(path)
        with Path(path).open("rb") as file:
            return decode_image(file, name=path, max_pixels=max_pixels, min_side=min_side)
    except _Rejected as rejection:
        raise UnreadableImage(path, str(rejection)) from None
    except UnreadableImage:
        raise
    except (OSError, ValueError) as error:  # ValueError: the path contains a null byte
        raise UnreadableImage(path, _describe_error(error)) from error


def decode_image(
    file: IO[bytes], *, name: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int | None = None
) -> Image.Image:
    """Decode one image from an open file or from memory, like `load_image`.

    Args:
        file: a seekable binary file.
        name: what error messages call it.
        max_pixels: as in `load_image`.
        min_side: as in `load_image`.

    Raises:
        UnreadableImage: it cannot be decoded, or is rejected; the message says why.
    """
    _silence_pillow()
    try:
        with _open_header(file) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise TooManyPixels(name, width=width, height=height, allowed=max_pixels)
            if width < 1 or height < 1:
                raise _Rejected(f"{width} x {height} pixels: the image is empty")
            if min_side is not None:
                image.draft(None, (DRAFT_GAP * min_side, DRAFT_GAP * min_side))
            image.load()
            return convert_to_upright_rgb(image)
    except _Rejected as rejection:
        raise UnreadableImage(name, str(rejection)) from None
    except TooManyPixels:
        raise
    # On damaged files Pillow's decoders raise anything: OSError, SyntaxError, struct.error, MemoryError…
    except Exception as error:
        raise UnreadableImage(name, _describe_error(error)) from error


def resize_image(
    image: Image.Image, sizes: Sequence[int], *, side: Literal["min", "max"] = "min"
) -> tuple[Pixels, ...]:
    """Resize a decoded image to several sizes.

    Args:
        image: the decoded image, mode RGB.
        sizes: target lengths of `side`, in pixels.
        side: whether `sizes` apply to the shorter ("min") or the longer ("max") side; see `scale_shape`.

    Returns:
        One uint8 (H, W, 3) per size.
    """
    shapes = [scale_shape(*image.size, size, side=side) for size in sizes]
    return tuple(np.asarray(image.resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0)) for shape in shapes)


def convert_to_upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded image of any mode upright and convert it to 8-bit RGB.

    16-bit grey is divided by 257. The modes I (32-bit integers) and F (floats) do not define white. White is the first
    of 1 (F only), 255 and 65535 that no value exceeds; if a value exceeds them all or is negative, the smallest value
    becomes black and the largest white.

    Raises:
        InvalidInput: a value is NaN or infinite.
    """
    image = _apply_orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_scale_to_8_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def scale_shape(width: int, height: int, size: int, *, side: Literal["min", "max"] = "min") -> tuple[int, int]:
    """Scale a width and height so that the shorter ("min") or longer ("max") side becomes `size`.

    The aspect ratio is kept up to 1:8; beyond it the longer side is squeezed to 8 times the shorter one.

    Returns:
        Width and height.
    """
    short, long = min(width, height), max(width, height)
    if side == "min":
        new_short, new_long = size, min(round(long * size / short), MAX_ASPECT * size)
    else:
        new_short, new_long = max(round(short * size / long), -(-size // MAX_ASPECT)), size
    return (new_short, new_long) if width <= height else (new_long, new_short)


def find_images(folder: str | Path) -> list[Path]:
    """List, sorted, the files below a folder that have the suffix of an image.

    Links to folders are followed. Each folder is visited once, by its own path if it lies below the one given. Broken
    links, unreadable files and folders that cannot be listed are included, so that decoding reports them.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    starts = [root]

    def include(error: OSError) -> None:
        found.append(Path(error.filename))

    for start in starts:  # grows during the loop
        for directory, folders, files in os.walk(start, onerror=include):
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            folders.sort()
            starts += [link for link in (Path(directory, name) for name in folders) if link.is_symlink()]
            found += [Path(directory, name) for name in files if Path(name).suffix.lower() in SUFFIXES]
    return sorted(found)


class _Rejected(Exception):
    """A reason that this module found, not Pillow."""


def _silence_pillow() -> None:
    """Suppress Pillow's warnings about damaged metadata.

    The filter is permanent, because `warnings.catch_warnings` is not safe in the threads that decode.
    """
    if _PILLOW_REMARKS not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def _check_regular(path: str | Path) -> None:
    """Reject everything but regular files; opening a named pipe would block forever."""
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # a missing permission is the better reason
        raise _Rejected("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _Rejected("it is not a regular file")
    if status.st_size == 0:
        raise _Rejected("the file is empty")


def _open_header(file: IO[bytes]) -> ImageFile.ImageFile:
    """Read the header like `Image.open`, which would warn above 89 megapixels and raise an error above 179."""
    Image.init()
    prefix = file.read(16)
    damaged = None
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a string means that Pillow was built without this format
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # how a plugin says "not mine"
            damaged = damaged or f"the file begins like {name} but is damaged: {error}"
    raise _Rejected(damaged or f"not a picture in a format that can be read here ({', '.join(FORMATS)})")


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


def _scale_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale the values (H, W) of an image with more than 8 bits to 0…255; see `convert_to_upright_rgb`."""
    if values.dtype.kind == "u":
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("the image has values that are not finite")
    whites = (255, 65535) if values.dtype.kind == "i" else (1, 255, 65535)
    black, white = next(((0.0, float(white)) for white in whites if low >= 0 and high <= white), (low, high))
    scaled = (values - black) * (255 / (white - black)) if white > black else np.zeros_like(values)
    return np.rint(scaled).astype(np.uint8)


def _describe_error(error: Exception) -> str:
    """Describe, for a message, what a decoder raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file, or a broken link"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return f"cannot be decoded: {error}" if str(error) else f"cannot be decoded: {type(error).__name__}"
