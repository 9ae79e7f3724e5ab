"""Picture files into upright 8-bit RGB pictures, or into the reason why not.

Every file gives a picture or raises UnreadableImage: nothing else, whatever the file holds. What a picture becomes:

* the EXIF (or XMP) orientation is applied; damaged metadata is ignored;
* transparency is composited on white; of an animation the first frame counts;
* 16-bit grey is scaled from 0…65535; 32-bit integers and floats as `upright_rgb` says;
* CMYK, grey, palette and YCbCr are converted without colour profiles: descriptors do not feel the difference.
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

from deepterms.errors import InvalidInput, MissingExtra, TooManyPixels, UnreadableImage

try:
    from PIL import Image, ImageFile
except ModuleNotFoundError as error:
    raise MissingExtra("pillow", "features") from error

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SUFFIXES",
    "Pixels",
    "decode_image",
    "find_images",
    "load_image",
    "resized_pixels",
    "resized_shape",
    "upright_rgb",
]

Pixels = NDArray[np.uint8]  # (H, W, 3)

DEFAULT_MAX_PIXELS = 250_000_000  # a 200-megapixel phone picture passes; 1 GB while it is decoded
MAX_ASPECT = 8  # beyond 1:8 a picture is squeezed along its long side: a 1 x 10000 strip would become 224 x 2240000

# Only formats of photographs, whatever the suffix says: Pillow would run Ghostscript on EPS, and take noise for TGA.
# HEIF counts where the caller has registered a plugin for it.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO", "JPEG2000", "AVIF", "HEIF", "PPM")
SUFFIXES = frozenset(
    f".{name}"
    for names in ("jpg jpeg jpe jfif mpo jp2 j2k", "png apng webp avif heic heif gif", "tif tiff bmp ppm pgm pnm")
    for name in names.split()
)
# A JPEG is decoded to at least twice the side asked for, and a better filter does the rest. At once the side itself:
# cosine 0.96 with the descriptor of the full picture; twice: 0.999.
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
    """Decodes one picture.

    Args:
        path: the file.
        max_pixels: a picture whose header announces more is refused before anything is decoded.
        min_side: the side it will be reduced to. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size when both sides
            stay at least twice as long: several times faster for large pictures.

    Returns:
        The upright picture, mode RGB.

    Raises:
        UnreadableImage: it cannot be decoded, or is refused; the reason is in the message.
    """
    try:
        _check_regular(path)
        with Path(path).open("rb") as file:
            return decode_image(file, name=path, max_pixels=max_pixels, min_side=min_side)
    except _Refused as refusal:
        raise UnreadableImage(path, str(refusal)) from None
    except UnreadableImage:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise UnreadableImage(path, _reason(error)) from error


def decode_image(
    file: IO[bytes], *, name: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int | None = None
) -> Image.Image:
    """Decodes one picture that is open, or in memory. As `load_image`.

    Args:
        file: that can be read from any place.
        name: what a message calls it.
        max_pixels: as in `load_image`.
        min_side: as in `load_image`.

    Raises:
        UnreadableImage: it cannot be decoded, or is refused; the reason is in the message.
    """
    _quiet_pillow()
    try:
        with _identified(file) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise TooManyPixels(name, width=width, height=height, allowed=max_pixels)
            if width < 1 or height < 1:
                raise _Refused(f"{width} x {height} pixels: there is nothing in it")
            if min_side is not None:
                picture.draft(None, (DRAFT_GAP * min_side, DRAFT_GAP * min_side))
            picture.load()
            return upright_rgb(picture)
    except _Refused as refusal:
        raise UnreadableImage(name, str(refusal)) from None
    except TooManyPixels:
        raise
    # Pillow's decoders raise whatever a damaged file leads them into: OSError, SyntaxError, struct.error, MemoryError…
    except Exception as error:
        raise UnreadableImage(name, _reason(error)) from error


def resized_pixels(
    picture: Image.Image, sizes: Sequence[int], *, side: Literal["min", "max"] = "min"
) -> tuple[Pixels, ...]:
    """A decoded picture at each of several sizes, as `resized_shape` says: one uint8 (H, W, 3) a size."""
    shapes = [resized_shape(*picture.size, size, side=side) for size in sizes]
    return tuple(np.asarray(picture.resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0)) for shape in shapes)


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Turns a decoded picture of any mode upright and converts it to 8-bit RGB.

    16-bit grey is divided by 257. The modes I (32-bit integers) and F (floats) do not say where white is: it is taken
    to be the first of 1 (F only), 255 and 65535 that no value exceeds; where none fits, or a value is negative, the
    smallest value becomes black and the largest white.

    Raises:
        InvalidInput: values that are not finite.
    """
    picture = _upright(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        return Image.fromarray(_eight_bit(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def resized_shape(width: int, height: int, size: int, *, side: Literal["min", "max"] = "min") -> tuple[int, int]:
    """Width and height that bring the shorter ("min") or the longer ("max") side to `size`, keeping the aspect.

    Beyond an aspect of 1:8 the longer side is squeezed to 8 times the shorter one.
    """
    short, long = min(width, height), max(width, height)
    if side == "min":
        new_short, new_long = size, min(round(long * size / short), MAX_ASPECT * size)
    else:
        new_short, new_long = max(round(short * size / long), -(-size // MAX_ASPECT)), size
    return (new_short, new_long) if width <= height else (new_long, new_short)


def find_images(folder: str | Path) -> list[Path]:
    """Lists the files below a folder whose suffix is that of a picture, sorted.

    Links to folders are followed, each folder once: those reached without a link first. Broken links, unreadable files
    and folders that may not be listed are in the list, so that whoever decodes them reports them.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    starts = [root]

    def list_as_well(error: OSError) -> None:
        found.append(Path(error.filename))

    for start in starts:  # grows while it is walked
        for directory, folders, files in os.walk(start, onerror=list_as_well):
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            folders.sort()
            starts += [link for link in (Path(directory, name) for name in folders) if link.is_symlink()]
            found += [Path(directory, name) for name in files if Path(name).suffix.lower() in SUFFIXES]
    return sorted(found)


class _Refused(Exception):
    """A reason found here rather than by Pillow."""


def _quiet_pillow() -> None:
    """Keeps Pillow's remarks about damaged metadata to itself.

    A filter for Pillow's modules that stays, since `warnings.catch_warnings` is not safe in the threads that decode.
    """
    if _PILLOW_REMARKS not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def _check_regular(path: str | Path) -> None:
    """Refuses what is not a file; opening a named pipe would wait for ever."""
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # says first when it is a folder that may not be read
        raise _Refused("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("it is not a regular file")
    if status.st_size == 0:
        raise _Refused("the file is empty")


def _identified(file: IO[bytes]) -> ImageFile.ImageFile:
    """Opens the header like `Image.open`, which would warn of pictures above 89 megapixels and refuse above 179."""
    Image.init()
    prefix = file.read(16)
    damaged = None
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a string: Pillow was built without this format
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # by these a plugin says "not mine"
            damaged = damaged or f"it begins like {name} but is damaged: {error}"
    raise _Refused(damaged or f"not a picture in a format that can be read here ({', '.join(FORMATS)})")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF raises as freely as damaged pixels, and says nothing about them
        return picture
    if orientation not in _UPRIGHT:
        return picture
    upright = picture.transpose(_UPRIGHT[orientation])
    # The copy carries the metadata along; turning it by them again would be wrong.
    upright.info = {key: value for key, value in picture.info.items() if key == "transparency"}
    return upright


def _eight_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scales the values (H, W) of a deeper picture to 0…255; see `upright_rgb`."""
    if values.dtype.kind == "u":
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidInput("the picture holds values that are not finite")
    whites = (255, 65535) if values.dtype.kind == "i" else (1, 255, 65535)
    black, white = next(((0.0, float(white)) for white in whites if low >= 0 and high <= white), (low, high))
    scaled = (values - black) * (255 / (white - black)) if white > black else np.zeros_like(values)
    return np.rint(scaled).astype(np.uint8)


def _reason(error: Exception) -> str:
    """Words for what a decoder raised."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file, or it is a link to none"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return f"cannot be decoded: {error}" if str(error) else f"cannot be decoded: {type(error).__name__}"
