"""Writers of picture files in kinds that Pillow reads but does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bmp", "png", "tiff"]

Array = NDArray[Any]


def tiff(
    samples: Array,
    *,
    photometric: int,
    bits: int | None = None,
    sample_format: int = 1,
    extra: Sequence[int] = (),
    tags: Mapping[int, Sequence[int]] | None = None,
    order: str = "<",
    planar: bool = False,
    deflate: bool = False,
) -> bytes:
    """Build a TIFF of one strip (one per channel if planar).

    Args:
        samples: (H, W) or (H, W, channels); bytes of packed samples (H, bytes per row) if `bits` is less than 8 or 12.
        photometric: 0 MinIsWhite, 1 MinIsBlack, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIELab.
        bits: per sample; by default those of the array's dtype.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        extra: ExtraSamples: 0 unspecified, 1 premultiplied alpha, 2 straight alpha.
        tags: further tags, as unsigned 16-bit integers; ImageWidth is needed where samples are packed.
        order: "<" or ">".
        planar: store each channel apart.
        deflate: compress the strips.
    """
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    ordered = samples.astype(samples.dtype.newbyteorder(order))  # type: ignore[arg-type]
    planes = [ordered[..., channel] for channel in range(channels)] if planar else [ordered]
    strips = [zlib.compress(plane.tobytes()) if deflate else plane.tobytes() for plane in planes]
    fields: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [bits or 8 * samples.dtype.itemsize] * channels,
        259: [8 if deflate else 1],
        262: [photometric],
        277: [channels],
        278: [height],
        284: [2 if planar else 1],
        339: [sample_format] * channels,
    }
    if extra:
        fields[338] = list(extra)
    fields |= tags or {}
    longs = {273: [8 + sum(map(len, strips[:number])) for number in range(len(strips))], 279: list(map(len, strips))}
    entries, values = b"", b""
    start = 8 + sum(map(len, strips))
    after = start + 2 + 12 * (len(fields) + len(longs)) + 4
    for tag in sorted([*fields, *longs]):
        numbers, code, kind = (longs[tag], "I", 4) if tag in longs else (fields[tag], "H", 3)
        packed = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", after + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + place
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    directory = struct.pack(f"{order}H", len(fields) + len(longs)) + entries + bytes(4)
    return header + b"".join(strips) + directory + values


def png(rows: Sequence[bytes], *, width: int, bits: int, colour: int, chunks: Mapping[bytes, bytes]) -> bytes:
    """Build a PNG.

    Args:
        rows: the packed samples of each row.
        width: in pixels.
        bits: per sample.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        chunks: written before the pixels, such as PLTE and tRNS.
    """
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks.items(), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def bmp(rgba: NDArray[np.uint8]) -> bytes:
    """Build a 32-bit BMP with a version 5 header, which declares an alpha channel, from (H, W, 4)."""
    height, width = rgba.shape[:2]
    body = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 124, width, height, 1, 32, 3, len(body), 2835, 2835, 0, 0, *masks)
    header += b"BGRs" + bytes(124 - len(header) - 4)
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(body), 0, 0, 14 + 124) + header + body
