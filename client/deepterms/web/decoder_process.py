"""Decodes untrusted images in a process that can compute, read its orders and write its replies, and nothing else.

``python -m deepterms.web.decoder_process BYTES`` reads orders from its standard input and writes replies to its
standard output, one at a time: a line of JSON, followed by the number of bytes that the line declares. The first line
of output signals that the process is ready, and says what holds it: ``{"held_by": ["limits", "user", "seccomp"]}``.

Limits bound memory, files and time. If the server runs as root, the process gets another user. seccomp, on Linux,
forbids opening files, connecting, starting programs, and reading or signalling other processes; so all formats are
loaded before.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.features.images import decode_image, resize_image
from deepterms.web.seccomp import confine

__all__ = ["main"]

JPEG_QUALITY = 82
MAX_OPEN_FILES = 16  # its pipes, and what Pillow imports lazily where opening files cannot be forbidden
NOBODY = 65_534

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_UPSIDE_DOWN = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"


def main() -> None:
    """Reply to orders until the input closes."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    held_by = _drop_privileges(memory=int(sys.argv[1]))
    sink.write(json.dumps({"held_by": held_by}).encode() + b"\n")
    sink.flush()
    while line := source.readline():
        order = json.loads(line)
        head, body = _execute(order, source.read(order["bytes"]))
        sink.write(json.dumps(head | {"bytes": len(body)}).encode() + b"\n" + body)
        sink.flush()


def _execute(order: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    sizes = order["sizes"]
    try:
        image = decode_image(io.BytesIO(content), name="the image", max_pixels=order["pixels"], min_side=max(sizes))
        if order["want"] == "jpeg":
            return {}, _thumbnail(image, sizes[0])
        arrays = resize_image(image, sizes, side=order["side"])
        return {"shapes": [array.shape for array in arrays]}, b"".join(array.tobytes() for array in arrays)
    except TooManyPixels as error:
        return {"width": error.width, "height": error.height}, b""
    except UnreadableImage as error:
        return {"error": error.reason}, b""
    except MemoryError:
        return {"error": "not enough memory to decode it"}, b""


def _thumbnail(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    return buffer.getvalue()


def _drop_privileges(*, memory: int) -> list[str]:
    """Limit what an exploited decoder could do, as far as the system allows.

    Returns:
        What holds: "limits", "user" and "seccomp". Windows has none of them, only the server's time limit.
    """
    _warm_up()
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return []
    held_by = ["limits"]
    for limit, value in (
        (resource.RLIMIT_AS, _address_space() + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        _, hard = resource.getrlimit(limit)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (lower, lower))
        except (OSError, ValueError):  # macOS cannot limit the address space
            continue
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            held_by.append("user")
        except OSError:  # a container without this capability
            pass
    if confine():
        held_by.append("seccomp")
    return held_by


def _warm_up() -> None:
    """Load everything that decoding the first image of any format would load, while files can be opened."""
    Image.init()
    if avif := sys.modules.get("PIL.AvifImagePlugin"):
        vars(avif)["DEFAULT_MAX_THREADS"] = 1  # threads reserve address space, which is limited
    import_module("encodings.idna")
    for name in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "PPM", "MPO", "AVIF", "HEIF"):
        for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "F"):
            buffer = io.BytesIO()
            with suppress(Exception):  # the format is not installed, or does not have the mode
                image = Image.new(mode, (64, 64))
                options = {"icc_profile": _SRGB, "exif": _UPSIDE_DOWN}
                image.save(buffer, name, **options)
            content = buffer.getvalue()
            for want in ("jpeg", "pixels"):
                for broken in (content, content[: len(content) // 2]):
                    with suppress(Exception):
                        _execute({"sizes": [32], "side": "min", "pixels": 5_000, "want": want}, broken)


def _address_space() -> int:
    """Bytes of address space in use, from /proc on Linux; elsewhere a guess."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 1 << 32
    import resource

    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
