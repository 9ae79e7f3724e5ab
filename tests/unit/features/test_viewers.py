"""Pictures decode to what a viewer shows, in each format and mode that Pillow would get wrong, or might."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deepterms.errors import UnreadableImage
from deepterms.features.images import decode_image, load_image
from tests.unit.features.odd_files import photograph
from tests.unit.features.raw_files import bmp, png, tiff

RGB = photograph(1)
HEIGHT, WIDTH = RGB.shape[:2]
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
ALPHA = np.asarray(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
RGBA = np.dstack([RGB, ALPHA])
KEYED = GREY.copy()
KEYED[20:40, 20:60] = 90  # the transparent colour
PALETTED = Image.fromarray(RGB).quantize(64)
PALETTE = np.array(PALETTED.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
INDICES = np.asarray(PALETTED)
CMYK = np.asarray(Image.fromarray(RGB).convert("CMYK"))

Picture = tuple[bytes, NDArray[Any]]


def on_white(colours: NDArray[Any], alpha: NDArray[Any] = ALPHA) -> NDArray[np.float64]:
    """Composite (H, W, 3) or (H, W)."""
    opacity = alpha[..., None] / 255
    shown: NDArray[np.float64] = as_rgb(colours) * opacity + 255 * (1 - opacity)
    return shown


def as_rgb(levels: NDArray[Any]) -> NDArray[Any]:
    return levels if levels.ndim == 3 else levels[..., None].repeat(3, axis=2)


def premultiply(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = ALPHA if colours.ndim == 2 else ALPHA[..., None]
    product: NDArray[np.uint8] = ((colours.astype(int) * alpha + 127) // 255).astype(np.uint8)
    return product


def deepen(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    deep: NDArray[np.uint16] = samples.astype(np.uint16) * 257
    return deep


def pack(samples: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack samples of less than 8 bits, or of 12, into the bytes of each row."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((samples[..., None] >> shifts & 1).astype(np.uint8).reshape(len(samples), -1), axis=1)


def grey_png(samples: NDArray[Any], bits: int, key: int | None = None) -> bytes:
    rows = pack(samples, bits) if bits < 8 else samples.astype(">u2" if bits == 16 else np.uint8)
    chunks = {} if key is None else {b"tRNS": struct.pack(">H", key)}
    return png([row.tobytes() for row in rows], width=WIDTH, bits=bits, colour=0, chunks=chunks)


def keyed_rgb_png(bits: int) -> Picture:
    """Build a PNG with a rectangle in a transparent colour, which differs from the others in the upper 8 bits."""
    colours = RGB.copy()
    colours[20:40, 20:60] = (10, 200, 30)
    deep = deepen(colours) + 7 * (deepen(colours) < 65000) if bits == 16 else colours
    rows = [row.tobytes() for row in deep.astype(">u2" if bits == 16 else np.uint8)]
    chunks = {b"tRNS": struct.pack(">3H", *map(int, deep[30, 30]))}
    shown = np.where((colours == (10, 200, 30)).all(axis=2)[..., None], 255, colours)
    return png(rows, width=WIDTH, bits=bits, colour=2, chunks=chunks), shown


def subsampled_tiff() -> Picture:
    """Build a YCbCr TIFF with one pair of chroma samples for 2 x 2 pixels, of a picture without finer chroma."""
    coarse = Image.fromarray(RGB).resize((WIDTH // 16, HEIGHT // 16)).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    values = np.asarray(coarse.convert("YCbCr"))
    luma = values[..., 0].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).transpose(0, 2, 1, 3).reshape(HEIGHT // 2, -1, 4)
    units = np.concatenate([luma, values[::2, ::2, 1:]], axis=2)
    tags = {256: [WIDTH], 258: [8, 8, 8], 277: [3], 339: [1, 1, 1], 530: [2, 2]}
    return tiff(units.reshape(HEIGHT, -1), photometric=6, tags=tags), np.asarray(coarse)


def grey_tiff(samples: NDArray[Any], *, photometric: int = 1, **options: Any) -> bytes:
    return tiff(samples, photometric=photometric, **options)


def packed_tiff(samples: NDArray[Any], bits: int, *, photometric: int = 1, **options: Any) -> bytes:
    return tiff(pack(samples, bits), photometric=photometric, bits=bits, tags={256: [WIDTH]}, **options)


def pgm(samples: NDArray[Any], white: int) -> bytes:
    return b"P5 %d %d %d\n" % (WIDTH, HEIGHT, white) + samples.astype(">u2").tobytes()


def dark(scale: int) -> NDArray[np.uint16]:
    """Levels of a picture so dark that no 16-bit value exceeds 255."""
    levels: NDArray[np.uint16] = GREY.astype(np.uint16) // scale
    return levels


BIG: Mapping[str, Any] = {"order": ">"}
DEFLATE: Mapping[str, Any] = {"order": ">", "deflate": True}
COLOUR_MAP = np.zeros((256, 3), int)
COLOUR_MAP[: len(PALETTE)] = PALETTE

# Each gives the content of a file and what it shows. Pillow 13 decodes those in WRONG_IN_PILLOW to something else.
WRONG_IN_PILLOW: Mapping[str, Callable[[], Picture]] = {
    "bmp-alpha-all-zero": lambda: (bmp(np.dstack([RGB, np.zeros_like(ALPHA)])), RGB),
    "png-grey-2-key": lambda: (grey_png(GREY >> 6, 2, 1), np.where(GREY >> 6 == 1, 255, (GREY >> 6) * 85)),
    "png-grey-4-key": lambda: (grey_png(GREY >> 4, 4, 7), np.where(GREY >> 4 == 7, 255, (GREY >> 4) * 17)),
    "png-grey-16-key": lambda: (grey_png(deepen(KEYED), 16, 257 * 90), np.where(KEYED == 90, 255, KEYED)),
    "png-rgb-16-key": lambda: keyed_rgb_png(16),
    "pgm-16-dark": lambda: (pgm(dark(1), 65535), np.rint(dark(1) / 257)),
    "tiff-premultiplied-grey": lambda: (
        tiff(np.dstack([premultiply(GREY), ALPHA]), photometric=1, extra=[1]),
        on_white(GREY),
    ),
    "tiff-16-white-is-zero": lambda: (grey_tiff(65535 - deepen(GREY), photometric=0), GREY),
    "tiff-12": lambda: (packed_tiff(deepen(GREY) >> 4, 12), GREY),
    "tiff-float-big-endian-deflate": lambda: (
        grey_tiff((GREY / 255).astype(np.float32), sample_format=3, **DEFLATE),
        GREY,
    ),
    "tiff-signed-16-big-endian-deflate": lambda: (grey_tiff(GREY.astype(np.int16), sample_format=2, **DEFLATE), GREY),
    "tiff-palette-of-8-bits": lambda: (
        tiff(INDICES, photometric=3, tags={320: COLOUR_MAP.T.ravel().tolist()}),
        PALETTE[INDICES],
    ),
    "tiff-planar-16": lambda: (tiff(deepen(RGB), photometric=2, planar=True), RGB),
    "tiff-planar-16-big-endian": lambda: (tiff(deepen(RGB), photometric=2, planar=True, **BIG), RGB),
    "tiff-planar-premultiplied": lambda: (
        tiff(np.dstack([premultiply(RGB), ALPHA]), photometric=2, extra=[1], planar=True),
        on_white(RGB),
    ),
    "tiff-ycbcr-subsampled": subsampled_tiff,
}
RIGHT_IN_PILLOW: Mapping[str, Callable[[], Picture]] = {
    "bmp-alpha": lambda: (bmp(RGBA), on_white(RGB)),
    "png-grey-1": lambda: (grey_png(GREY >> 7, 1), (GREY >> 7) * 255),
    "png-grey-2": lambda: (grey_png(GREY >> 6, 2), (GREY >> 6) * 85),
    "png-grey-4": lambda: (grey_png(GREY >> 4, 4), (GREY >> 4) * 17),
    "png-grey-16": lambda: (grey_png(deepen(GREY), 16), GREY),
    "png-grey-16-dark": lambda: (grey_png(dark(1), 16), np.rint(dark(1) / 257)),
    "png-grey-8-key": lambda: (grey_png(KEYED, 8, 90), np.where(KEYED == 90, 255, KEYED)),
    "png-rgb-8-key": lambda: keyed_rgb_png(8),
    "pgm-16": lambda: (pgm(deepen(GREY), 65535), GREY),
    "pgm-10": lambda: (pgm(deepen(GREY) >> 6, 1023), GREY),
    "tiff-white-is-zero": lambda: (grey_tiff(255 - GREY, photometric=0), GREY),
    "tiff-1-white-is-zero": lambda: (packed_tiff(1 - (GREY >> 7), 1, photometric=0), (GREY >> 7) * 255),
    "tiff-4-white-is-zero": lambda: (packed_tiff(15 - (GREY >> 4), 4, photometric=0), (GREY >> 4) * 17),
    "tiff-16": lambda: (grey_tiff(deepen(GREY)), GREY),
    "tiff-16-big-endian": lambda: (grey_tiff(deepen(GREY), **BIG), GREY),
    "tiff-16-big-endian-deflate": lambda: (grey_tiff(deepen(GREY), **DEFLATE), GREY),
    "tiff-float-to-1": lambda: (grey_tiff((GREY / 255).astype(np.float32), sample_format=3, **BIG), GREY),
    "tiff-float-to-255": lambda: (grey_tiff(GREY.astype(np.float32), sample_format=3), GREY),
    "tiff-rgb-16": lambda: (tiff(deepen(RGB), photometric=2), RGB),
    "tiff-rgb-16-deflate": lambda: (tiff(deepen(RGB), photometric=2, **DEFLATE), RGB),
    "tiff-straight": lambda: (tiff(RGBA, photometric=2, extra=[2]), on_white(RGB)),
    "tiff-premultiplied": lambda: (
        tiff(np.dstack([premultiply(RGB), ALPHA]), photometric=2, extra=[1]),
        on_white(RGB),
    ),
    "tiff-unspecified-channel": lambda: (tiff(RGBA, photometric=2, extra=[0]), RGB),
    "tiff-grey-straight": lambda: (tiff(np.dstack([GREY, ALPHA]), photometric=1, extra=[2]), on_white(GREY)),
    "tiff-palette-alpha": lambda: (
        tiff(np.dstack([INDICES, ALPHA]), photometric=3, extra=[2], tags={320: (COLOUR_MAP * 257).T.ravel().tolist()}),
        on_white(PALETTE[INDICES]),
    ),
    "tiff-planar": lambda: (tiff(RGB, photometric=2, planar=True), RGB),
    "tiff-cmyk-16": lambda: (tiff(deepen(CMYK), photometric=5), RGB),
    "tiff-ycbcr": lambda: (
        tiff(np.asarray(Image.fromarray(RGB).convert("YCbCr")), photometric=6, tags={530: [1, 1]}),
        RGB,
    ),
}
PICTURES = {**WRONG_IN_PILLOW, **RIGHT_IN_PILLOW}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_decode_to_what_they_show(name: str) -> None:
    content, shown = PICTURES[name]()
    picture = np.asarray(decode_image(io.BytesIO(content), name=name), dtype=np.float64)
    assert picture.shape == RGB.shape
    assert np.abs(picture - as_rgb(shown)).mean() < 1.5


def test_screenshots_without_alpha_values_differ() -> None:
    pictures = [bmp(np.dstack([photograph(seed), np.zeros_like(ALPHA)])) for seed in (1, 2)]
    first, second = (np.asarray(decode_image(io.BytesIO(picture), name="bmp")) for picture in pictures)
    np.testing.assert_array_equal(first, photograph(1))
    np.testing.assert_array_equal(second, photograph(2))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_of_every_depth_are_shown(bits: int, transparent: bool) -> None:
    palette = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    indices = GREY >> (8 - bits)
    rows = [row.tobytes() for row in (pack(indices, bits) if bits < 8 else indices)]
    opacities = np.full(2**bits, 255, np.uint8)
    opacities[:2] = (0, 128)
    chunks = {b"PLTE": palette.tobytes()} | ({b"tRNS": bytes(opacities[:2])} if transparent else {})
    content = png(rows, width=WIDTH, bits=bits, colour=3, chunks=chunks)
    shown = on_white(palette[indices], opacities[indices]) if transparent else palette[indices]
    assert np.abs(np.asarray(decode_image(io.BytesIO(content), name="png")) - shown).max() <= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(RGB.astype(np.float32), photometric=2, sample_format=3), "3 x 32-bit floating-point samples, RGB"),
        (tiff(GREY.astype(np.float64), photometric=1, sample_format=3), "1 x 64-bit floating-point samples, grey"),
        (tiff(np.dstack([RGB] * 4), photometric=1, extra=[0] * 11), "12 x 8-bit unsigned integer samples, grey"),
        (tiff(deepen(GREY), photometric=0, order=">"), "16-bit unsigned integer samples, grey, 0 is white"),
        (tiff(GREY, photometric=1, tags={259: [34887]}), "compression 34887, is not supported"),
        (tiff((GREY - 128).astype(np.int8), photometric=1, sample_format=2), "signed 8-bit samples is not supported"),
        (tiff(GREY.astype(np.float32), photometric=0, sample_format=3), "where 0 is white is not supported"),
        (tiff(GREY.astype(np.float32) * 9, photometric=1, sample_format=3), "black and white are not defined"),
        (tiff(GREY.astype(np.int16) - 99, photometric=1, sample_format=2), "black and white are not defined"),
        (tiff(deepen(GREY).astype(np.uint32) << 16, photometric=1), "black and white are not defined"),
        (tiff(RGB, photometric=2, tags={254: [1], 330: [8]}), "only a small preview, as in the raw files of cameras"),
        (tiff(RGB, photometric=2, tags={0xC612: [1, 4, 0, 0]}), "only a small preview, as in the raw files of cameras"),
    ],
)
def test_what_is_not_supported_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode_image(io.BytesIO(content), name="picture")
    assert "damaged" not in caught.value.reason


def test_a_planar_tiff_is_decoded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "planar.tif"
    path.write_bytes(tiff(deepen(RGB), photometric=2, planar=True))
    np.testing.assert_array_equal(np.asarray(load_image(path)), RGB)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_or_page_is_shown(kind: str) -> None:
    buffer = io.BytesIO()
    frames = [PALETTED, PALETTED.rotate(180)] if kind == "gif" else [Image.fromarray(p) for p in (RGB, RGB[::-1])]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], lossless=True)
    buffer.seek(0)
    expected = PALETTE[INDICES] if kind == "gif" else RGB
    np.testing.assert_array_equal(np.asarray(decode_image(buffer, name="frames")), expected)


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpegs_are_read_as_inverted(adobe: bool) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    marker = content.index(b"\xff\xee")
    end = marker + 2 + int.from_bytes(content[marker + 2 : marker + 4], "big")
    content = content if adobe else content[:marker] + content[end:]
    assert np.abs(np.asarray(decode_image(io.BytesIO(content), name="cmyk"), dtype=int) - RGB).mean() < 6


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"quality": 95, "subsampling": 0}),
        ("JPEG", "RGB", {"progressive": True, "dpi": (300, 300)}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
    ],
)
def test_ordinary_pictures_are_decoded_as_ever(kind: str, mode: str, options: dict[str, Any]) -> None:
    """Descriptors of existing indices stay what they are, bit for bit."""
    buffer = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(buffer, kind, **options)
    expected = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    buffer.seek(0)
    np.testing.assert_array_equal(np.asarray(decode_image(buffer, name="ordinary")), np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pictures_are_decoded_as_ever(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGBA).convert(mode).save(buffer, "PNG")
    buffer.seek(0)
    rgba = Image.fromarray(RGBA).convert(mode).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode_image(buffer, name="ordinary")), np.asarray(expected))


# ImageMagick 6 shows these differently: it takes unspecified channels for alpha, and knows few inverted or float TIFFs.
UNLIKE_IMAGEMAGICK = {
    "bmp-alpha-all-zero",
    "tiff-unspecified-channel",
    "tiff-4-white-is-zero",
    "tiff-float-to-255",
    "tiff-signed-16-big-endian-deflate",
    "tiff-ycbcr-subsampled",
}


@pytest.mark.parametrize("name", sorted(PICTURES.keys() - UNLIKE_IMAGEMAGICK))
def test_imagemagick_shows_the_same(tmp_path: Path, name: str) -> None:
    command = shutil.which("magick") or shutil.which("convert")
    if command is None:
        pytest.skip("ImageMagick is not installed: the commands magick and convert are missing")
    path, shown = tmp_path / f"picture.{name.split('-')[0]}", tmp_path / "shown.png"
    path.write_bytes(PICTURES[name]()[0])
    options = ["-background", "white", "-alpha", "remove", "-alpha", "off", "-colorspace", "sRGB", "-depth", "8"]
    subprocess.run([command, f"{path}[0]", *options, f"PNG24:{shown}"], check=True, capture_output=True)
    expected = np.asarray(Image.open(shown).convert("RGB"), dtype=int)
    assert np.abs(np.asarray(load_image(path), dtype=int) - expected).mean() < 1
