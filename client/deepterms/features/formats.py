"""The first bytes of a file into the picture format they announce, and Pillow plugins for the formats it lacks."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from deepterms.optional import require

with require("pillow", "features"):
    from PIL import Image

__all__ = ["FORMATS", "HEADER_BYTES", "SUFFIXES", "detect_iso_format", "is_picture", "register_plugins"]

# Formats of photos only, regardless of the suffix: Pillow would run Ghostscript on EPS, and accept noise as TGA.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO", "JPEG2000", "AVIF", "HEIF", "PPM")
SUFFIXES = frozenset(
    f".{name}"
    for names in ("jpg jpeg jpe jfif mpo jp2 j2k", "png apng webp avif heic heif gif", "tif tiff bmp ppm pgm pnm")
    for name in names.split()
)
HEADER_BYTES = 64  # enough for the brands that an ISO file lists

# Stricter than Pillow, which reads any file that begins with BM or P5: these decide about files of any name.
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|(?:II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08)(?!.{4}CR)"  # TIFF and BigTIFF, but not Canon's CR2
    rb"|BM.{4}.{8}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"  # JPEG 2000
    rb"|P[456]\s(?:#[^\n]*\n\s*)*\d+\s+\d+\s",
    re.DOTALL,
)
# From ISO/IEC 23008-12 (HEIF), annexes B and E, and the AVIF specification, section 6.
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}


def is_picture(header: bytes) -> bool:
    """Whether a file that begins with these bytes (`HEADER_BYTES` of them) has a format in `FORMATS`."""
    return _SIGNATURES.match(header) is not None or detect_iso_format(header) is not None


def detect_iso_format(header: bytes) -> Literal["AVIF", "HEIF"] | None:
    """Tell HEIC and HEIF from AVIF by the brands in the file type box, which both formats begin with.

    Pillow looks at the first brand only, which may be one that both share, such as ``mif1``.
    """
    if header[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(header[:4], "big"), len(header))
    brands = {header[8:12], *(header[start : start + 4] for start in range(16, size, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


@lru_cache(maxsize=1)
def register_plugins() -> None:
    """Load Pillow's own plugins, and pillow-heif if it is installed, for this process.

    Both at once, because a process that decodes untrusted files drops its privileges after the first image.
    """
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return
    if "HEIF" not in Image.OPEN:  # the caller may have registered it with other options
        pillow_heif.register_heif_opener()
    if "AVIF" not in Image.OPEN and hasattr(pillow_heif, "register_avif_opener"):  # Pillow before 11.3
        pillow_heif.register_avif_opener()
