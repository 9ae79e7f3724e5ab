"""The process that decodes pictures of strangers: limited memory, no files, no credentials in its environment.

``python -m deepterms.web.decoder_process BYTES`` reads orders on its standard input and writes answers on its standard
output, one after the other: a line of JSON, then as many bytes as the line says. The first line says that it is ready.
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
OPEN_FILES = 16  # its pipes, and what an import of Pillow's needs


def main() -> None:
    """Answer orders until there are no more."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    Image.init()  # all formats are loaded before nothing may be opened any more
    _give_up_rights(memory=int(sys.argv[1]))
    sink.write(b"{}\n")
    sink.flush()
    while line := source.readline():
        order = json.loads(line)
        head, body = _answer(order, source.read(order["bytes"]))
        sink.write(json.dumps(head | {"bytes": len(body)}).encode() + b"\n" + body)
        sink.flush()


def _answer(order: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    sizes = order["sizes"]
    try:
        picture = decode_image(io.BytesIO(content), name="the picture", max_pixels=order["pixels"], min_side=max(sizes))
        if order["want"] == "jpeg":
            return {}, _thumbnail(picture, sizes[0])
        arrays = resize_image(picture, sizes, side=order["side"])
        return {"shapes": [array.shape for array in arrays]}, b"".join(array.tobytes() for array in arrays)
    except TooManyPixels as error:
        return {"width": error.width, "height": error.height}, b""
    except UnreadableImage as error:
        return {"error": error.reason}, b""
    except MemoryError:
        return {"error": "not enough memory to decode it"}, b""


def _thumbnail(picture: Image.Image, side: int) -> bytes:
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    return buffer.getvalue()


def _give_up_rights(*, memory: int) -> None:
    """Limit what a decoder that was taken over could do; on systems without such limits only time is limited."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    _warm_up()
    for limit, value in (
        (resource.RLIMIT_AS, _address_space() + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        _, hard = resource.getrlimit(limit)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (lower, lower))
        except (OSError, ValueError):  # macOS has no limit of address space
            continue


def _warm_up() -> None:
    """Load whatever the first picture would load."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    _answer({"sizes": [32], "side": "min", "pixels": 5_000, "want": "jpeg"}, buffer.getvalue())
    _answer({"sizes": [32], "side": "min", "pixels": 5_000, "want": "pixels"}, buffer.getvalue())


def _address_space() -> int:
    """Bytes of addresses in use; of Linux's /proc, else a guess."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 1 << 32
    import resource

    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
