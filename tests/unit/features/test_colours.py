"""Pictures with an ICC profile are converted to sRGB."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from deepterms.features import colours
from deepterms.features.images import convert_to_upright_rgb, decode_image
from tests.unit.features.odd_files import photograph

RGB = photograph(1)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
ALPHA = np.asarray(Image.linear_gradient("L").resize((96, 64)))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def profile(space: bytes, tags: dict[bytes, bytes], *, connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """Build an ICC profile of version 2 (ICC.1:2001-04)."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)} | tags
    table, bodies = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02400000, kind, space, connection) + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)
    header = struct.pack(">I", start + len(bodies)) + header[4:].ljust(124, b"\0")
    return header + table + bodies


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def swap_red_and_green(content: bytes) -> bytes:
    return content.replace(b"rXYZ", b"....", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"....", b"gXYZ", 1)


def grey_profile(exponent: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(exponent)})


def cmyk_profile() -> bytes:
    """Build a profile in which only cyan matters: from white to black, as L* (lut16Type, 2 grid points per channel)."""
    lightness = [0xFF00 * (1 - corner // 8) for corner in range(16)]  # the first channel varies slowest
    grid = struct.pack(">48H", *(value for level in lightness for value in (level, 0x8000, 0x8000)))
    identity = struct.pack(">2H", 0, 0xFFFF)
    body = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", 2, 2)
    return profile(b"CMYK", {b"A2B0": body + identity * 4 + grid + identity * 3}, connection=b"Lab ", kind=b"prtr")


SWAPPED = swap_red_and_green(SRGB)
RED_GREEN = RGB[..., [1, 0, 2]]


def decode(image: Image.Image, kind: str, icc: bytes, **options: Any) -> NDArray[np.int64]:
    buffer = io.BytesIO()
    image.save(buffer, kind, icc_profile=icc, **options)
    buffer.seek(0)
    return np.asarray(decode_image(buffer, name="profiled"), dtype=np.int64)


@pytest.mark.parametrize(
    ("kind", "options", "mean_difference"),
    [
        ("PNG", {}, 1),
        ("JPEG", {"quality": 95}, 6),
        ("TIFF", {}, 1),
        ("WEBP", {"lossless": True}, 1),
        ("AVIF", {"quality": 100}, 6),
    ],
)
def test_rgb_profiles_are_applied(kind: str, options: dict[str, Any], mean_difference: float) -> None:
    shown = decode(Image.fromarray(RGB), kind, SWAPPED, **options)
    assert np.abs(shown - RED_GREEN).mean() < mean_difference


def test_the_profile_is_applied_before_white_is_added() -> None:
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    shown = RED_GREEN * (ALPHA[..., None] / 255) + 255 - ALPHA[..., None].astype(float)
    assert np.abs(decode(rgba, "PNG", SWAPPED) - shown).max() <= 3


@pytest.mark.parametrize("transparency", [{}, {"transparency": 5}, {"transparency": bytes(range(64))}])
def test_profiles_of_palettes_are_applied(transparency: dict[str, Any]) -> None:
    paletted = Image.fromarray(RGB).quantize(64)
    plain = io.BytesIO()
    paletted.save(plain, "PNG", **transparency)
    plain.seek(0)
    expected = np.asarray(decode_image(plain, name="palette"))[..., [1, 0, 2]]
    assert np.abs(decode(paletted, "PNG", SWAPPED, **transparency) - expected).max() <= 3


@pytest.mark.parametrize(("kind", "bits"), [("PNG", 8), ("PNG", 16), ("TIFF", 8), ("TIFF", 16), ("JPEG", 8)])
def test_grey_profiles_are_applied(kind: str, bits: int) -> None:
    samples = GREY if bits == 8 else GREY.astype(np.uint16) * 257
    light = GREY / 255
    shown = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)  # IEC 61966-2-1
    decoded = decode(Image.fromarray(samples), kind, grey_profile(1.0))
    assert np.abs(decoded - shown[..., None]).mean() < (6 if kind == "JPEG" else 1)


def test_grey_profiles_keep_transparency() -> None:
    pixels = np.array([[[128, 255], [128, 0]]], np.uint8)
    shown = decode(Image.fromarray(pixels, "LA"), "PNG", grey_profile(1.0))
    assert shown[0, :, 0].tolist() == [188, 255]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_profiles_are_applied(kind: str) -> None:
    ink = np.zeros((16, 32, 4), np.uint8)
    ink[:, 16:, 0] = 255
    ink[:, :, 1] = 200  # magenta, which this profile ignores
    shown = decode(Image.fromarray(ink, "CMYK"), kind, cmyk_profile())
    assert shown[:, :8].min() > 250
    assert shown[:, 24:].max() < 5


def test_srgb_profiles_change_nothing() -> None:
    for icc in (SRGB, SRGB.replace(b"sRGB", b"mine")):
        np.testing.assert_array_equal(decode(Image.fromarray(RGB), "PNG", icc), RGB)
    plain, profiled = io.BytesIO(), io.BytesIO()
    Image.fromarray(RGB).save(plain, "JPEG")
    Image.fromarray(RGB).save(profiled, "JPEG", icc_profile=SRGB)
    first, second = (np.asarray(decode_image(io.BytesIO(b.getvalue()), name="jpeg")) for b in (plain, profiled))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "icc",
    [
        b"nonsense" * 40,
        SWAPPED[:200],
        SWAPPED[:128] + bytes(len(SWAPPED) - 128),
        grey_profile(1.0),
        cmyk_profile(),
        SWAPPED + bytes(colours.MAX_PROFILE_BYTES),
    ],
    ids=["noise", "truncated", "zeros", "of grey", "of inks", "huge"],
)
def test_profiles_that_do_not_fit_are_ignored(icc: bytes) -> None:
    np.testing.assert_array_equal(decode(Image.fromarray(RGB), "TIFF", icc), RGB)


def test_rgb_profiles_of_grey_pictures_are_ignored() -> None:
    np.testing.assert_array_equal(decode(Image.fromarray(GREY), "PNG", SWAPPED)[..., 0], GREY)


def test_pictures_are_converted_once_and_left_alone() -> None:
    picture = Image.fromarray(RGB)
    picture.info["icc_profile"] = SWAPPED
    once = convert_to_upright_rgb(picture)
    assert np.abs(np.asarray(once, dtype=int) - RED_GREEN).max() <= 3
    np.testing.assert_array_equal(np.asarray(convert_to_upright_rgb(once)), np.asarray(once))
    np.testing.assert_array_equal(np.asarray(picture), RGB)


def test_profiles_and_orientation_are_both_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    shown = decode(Image.fromarray(RGB[::-1, ::-1].copy()), "PNG", SWAPPED, exif=exif)
    assert np.abs(shown - RED_GREEN).max() <= 3


def test_threads_share_a_transform() -> None:
    pictures = [Image.fromarray(photograph(seed)) for seed in range(16)]
    for picture in pictures:
        picture.info["icc_profile"] = SWAPPED
    expected = [convert_to_upright_rgb(picture).tobytes() for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        assert [image.tobytes() for image in threads.map(convert_to_upright_rgb, pictures)] == expected


@pytest.mark.parametrize("icc", [SWAPPED, grey_profile(1.8)], ids=["rgb", "grey"])
def test_imagemagick_converts_to_the_same_colours(tmp_path: Path, icc: bytes) -> None:
    command = shutil.which("magick") or shutil.which("convert")
    if command is None:
        pytest.skip("ImageMagick is not installed: the commands magick and convert are missing")
    source, target, shown = tmp_path / "in.png", tmp_path / "srgb.icc", tmp_path / "out.png"
    target.write_bytes(SRGB)
    picture = Image.fromarray(RGB if icc is SWAPPED else GREY)
    picture.save(source, icc_profile=icc)
    subprocess.run([command, source, "-profile", target, f"PNG24:{shown}"], check=True, capture_output=True)
    expected = np.asarray(Image.open(shown).convert("RGB"), dtype=int)
    assert np.abs(decode(picture, "PNG", icc) - expected).mean() < 1.5
