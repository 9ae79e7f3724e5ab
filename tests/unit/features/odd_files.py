"""Files that no decoder should trust, and valid ones that decoders get wrong, generated on demand."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["KINDS", "photograph", "write_odd_but_good", "write_odd_files"]


def photograph(seed: int, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Generate an image with coarse and fine structure, different for every seed; uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape)
    pixels: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


def write_odd_files(folder: str | Path, count: int) -> list[Path]:
    """Write `count` different files with an image suffix that are not valid images, cycling through `KINDS`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    makers = list(KINDS.items())
    paths = []
    for number in range(count):
        kind, (suffix, make) = makers[number % len(makers)]
        path = folder / f"odd-{number:04d}-{kind}{suffix}"
        content = make(number)
        if content is None:
            path.symlink_to(folder / f"nowhere-{number}")
        else:
            path.write_bytes(content)
        paths.append(path)
    return paths


def write_odd_but_good(folder: str | Path) -> list[Path]:
    """Write images that are readable but unusual, one per kind; the file's stem names the kind."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(photograph(1))
    grey = rgb.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    translucent = rgb.copy()
    translucent.putalpha(Image.linear_gradient("L").resize(rgb.size))
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.jpg": (rgb, {"quality": 95}),
        "rotated.jpg": (rgb.transpose(Image.Transpose.ROTATE_90), {"quality": 95, "exif": _orientation(6)}),
        "mirrored.png": (rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {"exif": _orientation(2)}),
        "damaged-exif.jpg": (rgb, {"quality": 95, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage"}),
        "progressive.jpg": (rgb, {"quality": 95, "progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 95}),
        "cmyk.tif": (rgb.convert("CMYK"), {}),
        "grey.jpg": (grey, {"quality": 95}),
        "sixteen-bit.png": (Image.fromarray(deep), {}),
        "sixteen-bit.tif": (Image.fromarray(deep.astype(">u2")), {}),
        "thirty-two-bit.tif": (Image.fromarray(deep.astype(np.int32)), {}),
        "float.tif": (Image.fromarray((deep / 65535).astype(np.float32)), {}),
        "one-bit.png": (grey.convert("1"), {}),
        "palette.png": (rgb.quantize(64), {}),
        "palette-alpha.png": (rgb.quantize(64), {"transparency": bytes(range(64))}),
        "alpha.png": (translucent, {}),
        "alpha.webp": (translucent, {"lossless": True}),
        "grey-alpha.png": (translucent.convert("LA"), {}),
        "animated.gif": (rgb.quantize(64), {"save_all": True, "append_images": [rgb.rotate(180).quantize(64)]}),
        "animated.webp": (rgb, {"save_all": True, "append_images": [rgb.rotate(180)], "lossless": True}),
        "one-pixel.png": (rgb.resize((1, 1)), {}),
        "strip.png": (rgb.resize((2000, 1)), {}),
        "capitals.JPG": (rgb, {"quality": 95, "format": "JPEG"}),
        "wrong-suffix.jpg": (rgb, {"format": "PNG"}),
        "bitmap.bmp": (rgb, {}),
        "pixmap.ppm": (rgb, {}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(folder / name, **options)
    return sorted(folder / name for name in pictures)


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _encoded(seed: int, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(seed)).save(buffer, image_format, **options)
    return buffer.getvalue()


def _cut(content: bytes, seed: int) -> bytes:
    """Keep between 40 and 80 percent."""
    return content[: len(content) * (40 + 7 * seed % 41) // 100]


def _noise(seed: int, size: int = 400) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_of_zeros(width: int, height: int) -> bytes:
    """Build a PNG whose header announces far more pixels than it contains."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _overwritten(content: bytes, seed: int, *, start: int) -> bytes:
    """Keep the first bytes and replace the rest with noise."""
    return content[:start] + _noise(seed, len(content) - start)


def _png_with_damaged_header(seed: int) -> bytes:
    content = bytearray(_encoded(seed, "PNG"))
    content[18] ^= 0xFF  # the width no longer agrees with the checksum
    return bytes(content)


def _postscript(seed: int) -> bytes:
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n% {seed}\nshowpage\n".encode()


def _bitmap_header(seed: int) -> bytes:
    """Build a BMP that announces 4.9 gigapixels and contains none."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 70_000 + seed, 70_000, 1, 24, *[0] * 6)


def _zip(seed: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("note.txt", f"not a picture {seed}")
    return buffer.getvalue()


# kind → suffix, and what generates the content from a seed (None for a broken link)
KINDS: dict[str, tuple[str, Callable[[int], bytes | None]]] = {
    "truncated-jpeg": (".jpg", lambda seed: _cut(_encoded(seed, "JPEG"), seed)),
    "text": (".jpg", lambda seed: f"This is note number {seed}, not a picture.\n".encode()),
    "empty": (".jpg", lambda seed: b""),
    "bomb-png": (".png", lambda seed: _png_of_zeros(60_000 + seed, 60_000)),
    "corrupt-webp": (".webp", lambda seed: _overwritten(_encoded(seed, "WEBP"), seed, start=12)),
    "truncated-png": (".png", lambda seed: _cut(_encoded(seed, "PNG"), seed)),
    "noise": (".png", lambda seed: _noise(seed)),
    "web-page": (".jpeg", lambda seed: f"<!doctype html><title>404</title><p>{seed}".encode()),
    "truncated-gif": (".gif", lambda seed: _cut(_encoded(seed, "GIF"), seed)),
    "lost-tiff": (".tif", lambda seed: b"II*\0" + struct.pack("<I", 1_000_000 + seed) + _noise(seed, 50)),
    "truncated-tiff": (".tif", lambda seed: _cut(_encoded(seed, "TIFF"), seed)),
    "truncated-bitmap": (".bmp", lambda seed: _cut(_encoded(seed, "BMP"), seed)),
    "jpeg-header": (".jpg", lambda seed: _encoded(seed, "JPEG")[: 20 + seed % 100]),
    "truncated-progressive": (".jpg", lambda seed: _cut(_encoded(seed, "JPEG", progressive=True), seed)),
    "damaged-png-header": (".png", _png_with_damaged_header),
    "zeros": (".jpg", lambda seed: bytes(1000 + seed)),
    "archive": (".jpg", _zip),
    "link-to-nowhere": (".jpg", lambda seed: None),
    "truncated-webp": (".webp", lambda seed: _cut(_encoded(seed, "WEBP"), seed)),
    "postscript": (".jpg", _postscript),
    "drawing": (".png", lambda seed: f'<svg xmlns="http://www.w3.org/2000/svg" id="n{seed}"/>'.encode()),
    "truncated-avif": (".avif", lambda seed: _cut(_encoded(seed, "AVIF"), seed)),
    "bomb-bitmap": (".bmp", _bitmap_header),
}
