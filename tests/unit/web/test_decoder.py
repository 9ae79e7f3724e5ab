"""Untrusted images are decoded in expendable processes: same pixels, every limit enforced, no secrets to steal."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.features.images import load_image, resize_image
from deepterms.web.decoder import SandboxedDecoder
from deepterms.web.errors import HttpError
from deepterms.web.limits import Limits
from tests.unit.features.odd_files import write_odd_but_good, write_odd_files
from tests.unit.web.conftest import jpeg


@pytest.fixture(scope="module")
def decoder() -> Iterator[SandboxedDecoder]:
    decoder = SandboxedDecoder(Limits(), processes=1)
    yield decoder
    decoder.close()


def png(width: int, height: int, *, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_pixels_match_those_of_the_extractor(decoder: SandboxedDecoder, tmp_path: Path) -> None:
    for path in write_odd_but_good(tmp_path):
        expected = resize_image(load_image(path, min_side=64), (48, 64))
        found = decoder.pixels(path.read_bytes(), sizes=(48, 64), side="min")
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=path.name)


def test_thumbnail_has_no_metadata(decoder: SandboxedDecoder) -> None:
    made = Image.open(io.BytesIO(decoder.thumbnail(jpeg(1, width=300, height=200), side=100)))
    assert (made.format, made.size) == ("JPEG", (100, 67))
    assert not made.getexif()  # neither location nor camera


def test_malformed_files_do_not_crash_the_decoder(decoder: SandboxedDecoder, tmp_path: Path) -> None:
    decoder.thumbnail(jpeg(1), side=32)
    before = decoder.replaced
    for path in write_odd_files(tmp_path, 40):
        if path.is_file():
            with pytest.raises(UnreadableImage):
                decoder.thumbnail(path.read_bytes(), side=100)
    assert decoder.replaced == before  # rejected, not crashed
    assert decoder.thumbnail(jpeg(1), side=32)


def test_oversized_image_is_rejected_before_decoding(decoder: SandboxedDecoder) -> None:
    started = time.perf_counter()
    with pytest.raises(TooManyPixels) as rejected:
        decoder.pixels(png(9_000, 8_000, mode="1"), sizes=[48], side="min")
    assert rejected.value.pixels == 72_000_000
    assert time.perf_counter() - started < 5


def test_memory_is_limited() -> None:
    decoder = SandboxedDecoder(Limits(decoding_bytes=96 << 20), processes=1)
    try:
        with pytest.raises(UnreadableImage, match=r"memory|crashed"):
            decoder.pixels(png(8_000, 7_000), sizes=[48], side="min")  # 168 MB of pixels in a 200 kB file
        assert decoder.pixels(jpeg(1), sizes=[48], side="min")
    finally:
        decoder.close()


def test_time_is_limited() -> None:
    decoder = SandboxedDecoder(Limits(decoding_seconds=0.05), processes=1)
    try:
        with pytest.raises(UnreadableImage, match=r"within 0.05 s"):
            decoder.pixels(png(7_000, 7_000), sizes=[48], side="min")
        assert decoder.replaced == 1
    finally:
        decoder.close()


def test_process_that_died_while_idle_costs_no_picture(decoder: SandboxedDecoder) -> None:
    for _ in range(3):
        decoder.thumbnail(jpeg(1), side=32)
        child = decoder._idle.get()
        assert child is not None
        os.kill(child._process.pid, signal.SIGKILL)
        decoder._idle.put(child)
        assert decoder.thumbnail(jpeg(1), side=32)


def test_a_picture_that_kills_every_process_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has hardly any memory, so that it dies instead of replying."""
    decoder = SandboxedDecoder(Limits(decoding_bytes=4096), processes=1)
    try:
        for _ in range(2):
            with pytest.raises(UnreadableImage, match=r"memory|crashed"):
                decoder.pixels(png(3_000, 3_000), sizes=[48], side="min")
    finally:
        decoder.close()


def test_no_process_is_the_fault_of_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        decoder = SandboxedDecoder(Limits(), processes=1)
        with pytest.raises(HttpError) as failed:
            decoder.thumbnail(jpeg(1), side=32)
    assert failed.value.status == 503
    try:
        assert decoder.thumbnail(jpeg(1), side=32)
    finally:
        decoder.close()


ESCAPES = {
    "reads the server's environment": "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "reads a file": "open('/etc/passwd').read()",
    "lists a folder": "os.listdir('/')",
    "writes a file": "open('/tmp/deepterms-escaped', 'w').write('x')",
    "connects": "socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=5)",
    "opens a socket": "socket.socket(socket.AF_UNIX)",
    "forks": "os.fork() or os._exit(0)",
    "starts a program": "os.execv('/bin/true', ['true'])",
    "signals the server": "os.kill(os.getppid(), 0)",
    "makes code": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "traces the server": "ptrace()",
}
PROGRAM = """
import ctypes, json, mmap, os, socket, sys
from deepterms.web.decoder_process import _drop_privileges
def ptrace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
held_by, outcome = _drop_privileges(memory=1 << 30), {}
for name, code in json.loads(sys.argv[2]).items():
    try:
        exec(code)
        outcome[name] = "possible"
    except OSError as error:
        outcome[name] = error.strerror
print(json.dumps([held_by, outcome]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp is part of Linux")
def test_exploited_process_cannot_leave() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, port, json.dumps(ESCAPES)], capture_output=True, text=True, timeout=120
        )
    assert run.returncode == 0, run.stderr
    held_by, outcome = json.loads(run.stdout)
    assert "seccomp" in held_by
    assert ("user" in held_by) == (os.geteuid() == 0)
    assert outcome == dict.fromkeys(ESCAPES, "Operation not permitted")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_exploited_process_would_find_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEEPTERMS_PASSWORD", "DEEPTERMS_API_KEY", "DEEPTERMS_URL", "DEEPTERMS_SERVE_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
    decoder = SandboxedDecoder(Limits(), processes=1)
    try:
        decoder.thumbnail(jpeg(1), side=32)
        child = decoder._idle.get()
        assert child is not None
        decoder._idle.put(child)
        process = Path(f"/proc/{child._process.pid}")
        assert b"a-secret" not in (process / "environ").read_bytes()
        limits = (process / "limits").read_text()
        found = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
        assert found["Max file size"] == "0"
        assert found["Max core file size"] == "0"
        assert int(found["Max open files"]) <= 16
        assert found["Max address space"] != "unlimited"
    finally:
        decoder.close()


def test_compressed_text_chunk_is_rejected(decoder: SandboxedDecoder) -> None:
    """A small PNG whose text chunk decompresses to 256 MB."""
    content = png(8, 8)
    text = b"comment\0\0" + zlib.compress(bytes(1 << 28), 9)
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    with pytest.raises(UnreadableImage):
        decoder.thumbnail(content[:33] + chunk + content[33:], side=32)
    assert decoder.thumbnail(jpeg(1), side=32)


def encode(kind: str, width: int = 64, height: int = 64, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def patch(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace every occurrence of a field, which must exist."""
    assert old in content
    return content.replace(old, new)


def big_tiff() -> bytes:
    wide = struct.pack("<HHI", 256, 4, 1)
    return patch(encode("TIFF"), wide + struct.pack("<I", 64), wide + struct.pack("<I", 2_000_000_000))


def looping_tiff() -> bytes:
    """A page that names itself as the next one."""
    content = bytearray(encode("TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    return bytes(content)


def many_frames(kind: str, count: int = 3_000) -> bytes:
    frames = [Image.new("RGB", (8, 8), (number % 256, number // 256, 0)) for number in range(count)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def zipped_tiff() -> bytes:
    """A strip of 64 MB of zeros that announces 64 x 64 pixels."""
    strip = zlib.compress(bytes(64 << 20), 9)
    tags = [
        *((256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 64)),
        (279, 4, len(strip)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    page = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + page


ENTITIES = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
LAUGHS = f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha">{ENTITIES}]><svg>&j;</svg>'
HUGE = struct.pack(">I", 2_000_000_000)
BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG 2000 of 2 billion columns": lambda: patch(
        encode("JPEG2000"), struct.pack(">II", 64, 64), HUGE + struct.pack(">I", 64)
    ),
    "PNG of 2 billion columns": lambda: patch(png(64, 64), b"IHDR" + struct.pack(">I", 64), b"IHDR" + HUGE),
    "TIFF of 2 billion columns": big_tiff,
    "BMP of 2 billion columns": lambda: patch(
        encode("BMP"), struct.pack("<II", 40, 64), struct.pack("<II", 40, 2_000_000_000)
    ),
    "AVIF of 2 billion columns": lambda: patch(
        encode("AVIF"), b"ispe" + bytes(4) + struct.pack(">I", 64), b"ispe" + bytes(4) + HUGE
    ),
    "GIF of 65,535 x 65,535": lambda: patch(
        encode("GIF"), b"GIF87a" + struct.pack("<HH", 64, 64), b"GIF87a" + b"\xff" * 4
    ),
    "JPEG of 65,500 x 65,500": lambda: patch(
        encode("JPEG"), struct.pack(">BHH", 8, 64, 64), struct.pack(">BHH", 8, 65_500, 65_500)
    ),
    "SVG of a billion laughs": lambda: LAUGHS.encode(),
    "gzip of zeros": lambda: gzip.compress(bytes(64 << 20)),
    "PDF": lambda: b"%PDF-1.7\n" + b"1 0 obj <<>> endobj\n" * 10_000,
    "EPS that runs a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9000 9000\n(%pipe%id) (r) file\n",
}
HARMLESS: dict[str, Callable[[], bytes]] = {
    "GIF of 3,000 frames": lambda: many_frames("GIF"),
    "WebP of 3,000 frames": lambda: many_frames("WEBP"),
    "TIFF of 3,000 pages": lambda: many_frames("TIFF"),
    "TIFF that loops": looping_tiff,
    "TIFF whose strip is larger than its page": zipped_tiff,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_rejected_by_their_header(decoder: SandboxedDecoder, name: str) -> None:
    content = BOMBS[name]()
    decoder.thumbnail(jpeg(1), side=32)
    before = decoder.replaced
    with pytest.raises(UnreadableImage):
        decoder.pixels(content, sizes=[48], side="min")
    assert decoder.replaced == before  # neither crashed nor too slow
    assert decoder.thumbnail(jpeg(1), side=32)


@pytest.mark.parametrize("name", HARMLESS)
def test_only_the_first_picture_of_a_file_costs(decoder: SandboxedDecoder, name: str) -> None:
    before = decoder.replaced
    (pixels,) = decoder.pixels(HARMLESS[name](), sizes=[8], side="min")
    assert pixels.shape == (8, 8, 3)
    assert decoder.replaced == before
