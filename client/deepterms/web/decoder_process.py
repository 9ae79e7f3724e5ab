"""Decodes untrusted images in a process that has little memory, writes no files and inherits no credentials.

``python -m deepterms.web.decoder_process BYTES`` reads orders from its standard input and writes replies to its
standard output, one at a time: a line of JSON, followed by the number of bytes that the line declares. The first line
of output signals that the process is ready.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.features.images import decode_image, resize_image

__all__ = ["main"]

JPEG_QUALITY = 82
MAX_OPEN_FILES = 16  # its pipes and whatever Pillow imports lazily


def main() -> None:
    """Reply to orders until the input closes."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    Image.init()  # load all formats before opening files is restricted
    _drop_privileges(memory=int(sys.argv[1]))
    sink.write(b"{}\n")
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


def _drop_privileges(*, memory: int) -> None:
    """Limit what an exploited decoder could do; systems without resource limits rely on the time limit alone."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    _warm_up()
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


def _warm_up() -> None:
    """Load everything that decoding the first image would load."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    _execute({"sizes": [32], "side": "min", "pixels": 5_000, "want": "jpeg"}, buffer.getvalue())
    _execute({"sizes": [32], "side": "min", "pixels": 5_000, "want": "pixels"}, buffer.getvalue())


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
