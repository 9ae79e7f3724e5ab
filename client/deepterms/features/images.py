"""Image files into upright 8-bit RGB images, or into the reason why they cannot be read.

Whatever a file contains, it either gives an image or raises UnreadableImage. Decoding works as follows:

* the EXIF (or XMP) orientation is applied; damaged metadata is ignored;
* transparency is composited on white; an animation gives its first frame, several pages the first one;
* colours are converted to sRGB from their ICC profile; CMYK and Lab without one as Pillow does;
* for more than 8 bits per sample see `convert_to_upright_rgb`.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput, MissingExtra, TooManyPixels, UnreadableImage
from deepterms.features.colours import convert_to_upright_rgb, correct_transparency
from deepterms.features.folders import FoundImages, find_images
from deepterms.features.formats import FORMATS, HEADER_BYTES, SUFFIXES, detect_iso_format, register_plugins
from deepterms.features.tiff import UnsupportedTiff, describe_layout, prepare_tiff
from deepterms.optional import require

with require("pillow", "features"):
    from PIL import Image, ImageFile, JpegImagePlugin

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SUFFIXES",
    "FoundImages",
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

# A JPEG is decoded to at least twice the requested side, then reduced with a better filter. Cosine with the descriptor
# of the full image: 0.96 when decoded to the side itself, 0.999 when decoded to twice the side.
DRAFT_GAP = 2

_UNSUPPORTED_TIFF = ("unknown pixel mode", "Invalid value for samples per pixel")  # in Pillow's words
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
            if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
                # not HEIF, where it would decode a thumbnail that the file contains
                image.draft(None, (DRAFT_GAP * min_side, DRAFT_GAP * min_side))
            image.load()
            return convert_to_upright_rgb(image)
    except TooManyPixels:
        raise
    except (_Rejected, UnsupportedTiff, InvalidInput) as rejection:
        raise UnreadableImage(name, str(rejection)) from None
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
    register_plugins()
    prefix = file.read(HEADER_BYTES)
    iso_format = detect_iso_format(prefix)
    damaged = None
    for name in FORMATS if iso_format is None else (iso_format,):
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(prefix[:16])
            if isinstance(accepted, str):  # Pillow was built without this format
                continue
            if accepted or iso_format is not None:
                file.seek(0)
                image = factory(file, "")
                if name == "PNG":
                    correct_transparency(image, bits=prefix[24])  # a byte of the chunk IHDR, which comes first
                prepare_tiff(image)
                return image
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # how a plugin says "not mine"
            damaged = damaged or _describe_header(file, name, error)
    if iso_format is not None and damaged is None:
        raise _Rejected(f"{iso_format} picture; {MissingExtra('pillow-heif', 'heif')}")
    raise _Rejected(damaged or f"not a picture in a format that can be read here ({', '.join(FORMATS)})")


def _describe_header(file: IO[bytes], name: str, error: Exception) -> str:
    """Describe why a plugin cannot open a file that begins like its format."""
    # Pillow looks up the compression in a dictionary.
    if name == "TIFF" and (isinstance(error.__cause__, KeyError) or str(error) in _UNSUPPORTED_TIFF):
        with suppress(Exception):  # it is damaged after all
            return f"TIFF with {describe_layout(file)}, is not supported; convert it to 8 bits per sample, grey or RGB"
    return f"the file begins like {name} but is damaged: {error}"


def _describe_error(error: Exception) -> str:
    """Describe, for a message, what a decoder raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file, or a broken link"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return f"cannot be decoded: {str(error).strip() or type(error).__name__}"
