from __future__ import annotations

import io
import os
import random
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deepterms.errors import InvalidInput, UnreadableImage
from deepterms.features import images
from deepterms.features.images import convert_to_upright_rgb, find_images, load_image, scale_shape
from tests.unit.features.odd_files import KINDS, photograph, write_odd_but_good, write_odd_files

ORIGINAL = photograph(1).astype(np.int16)
GREY = np.asarray(Image.fromarray(photograph(1)).convert("L"), dtype=np.int16)[:, :, None].repeat(3, axis=2)
ALPHA = np.asarray(Image.linear_gradient("L").resize((96, 64)), dtype=np.float64)[:, :, None] / 255
ON_WHITE = (ORIGINAL * ALPHA + 255 * (1 - ALPHA)).round()
GREY_ON_WHITE = (GREY * ALPHA + 255 * (1 - ALPHA)).round()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in write_odd_but_good(tmp_path_factory.mktemp("good"))}


@pytest.mark.parametrize(
    ("name", "expected", "mean_difference"),
    [
        ("plain.jpg", ORIGINAL, 6),
        ("rotated.jpg", ORIGINAL, 6),
        ("mirrored.png", ORIGINAL, 0),
        ("damaged-exif.jpg", ORIGINAL, 6),
        ("progressive.jpg", ORIGINAL, 6),
        ("cmyk.jpg", ORIGINAL, 6),
        ("cmyk.tif", ORIGINAL, 1),
        ("grey.jpg", GREY, 6),
        ("sixteen-bit.png", GREY, 0),
        ("sixteen-bit.tif", GREY, 0),
        ("thirty-two-bit.tif", GREY, 0),
        ("float.tif", GREY, 0),
        ("palette.png", ORIGINAL, 16),
        ("alpha.png", ON_WHITE, 1),
        ("alpha.webp", ON_WHITE, 1),
        ("grey-alpha.png", GREY_ON_WHITE, 1),
        ("animated.gif", ORIGINAL, 16),
        ("animated.webp", ORIGINAL, 0),
        ("capitals.JPG", ORIGINAL, 6),
        ("wrong-suffix.jpg", ORIGINAL, 0),
        ("bitmap.bmp", ORIGINAL, 0),
        ("pixmap.ppm", ORIGINAL, 0),
    ],
)
def test_unusual_images_decode_to_what_they_show(
    good: dict[str, Path], name: str, expected: NDArray[np.float64], mean_difference: float
) -> None:
    picture = load_image(good[name])
    assert picture.mode == "RGB"
    assert picture.size == (96, 64)
    assert np.abs(np.asarray(picture) - expected).mean() <= mean_difference


def test_every_unusual_image_is_readable(good: dict[str, Path]) -> None:
    assert {load_image(path).mode for path in good.values()} == {"RGB"}
    assert load_image(good["one-pixel.png"]).size == (1, 1)
    assert load_image(good["strip.png"]).size == (2000, 1)


@pytest.mark.parametrize(
    ("suffix", "options", "mean_difference"),
    [
        (".png", {}, 0),
        (".jpg", {"quality": 95}, 6),
        (".webp", {"lossless": True}, 0),
        (".tif", {}, 0),
        (".tiff", {"compression": "tiff_lzw"}, 0),
        (".avif", {"quality": 95}, 8),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(
    tmp_path: Path, orientation: int, suffix: str, options: dict[str, Any], mean_difference: float
) -> None:
    upright = photograph(2)
    # Cameras store the inverse of the transform that the tag asks the viewer to apply (EXIF 2.3, tag 0x0112).
    store: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(np.ascontiguousarray(store[orientation](upright))).save(path, exif=exif, **options)
    loaded = load_image(path)
    assert loaded.size == upright.shape[1::-1]
    assert np.abs(np.asarray(loaded, dtype=int) - upright).mean() <= mean_difference
    np.testing.assert_array_equal(np.asarray(convert_to_upright_rgb(loaded)), np.asarray(loaded))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 257, 65535]], np.uint16), [0, 0, 1, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 254.6]], np.float32), [0, 100, 255]),
    ],
)
def test_deep_greys_are_scaled_and_not_clipped(values: NDArray[np.generic], expected: list[int]) -> None:
    assert np.asarray(convert_to_upright_rgb(Image.fromarray(values)))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 50_000, 100_000]], np.int32),
        np.array([[-100, -20, 100]], np.int32),
        np.array([[-1, -0.5, 1]], np.float32),
        np.array([[0, 256]], np.float32),
        np.array([[7e9, 7e9]], np.float32),
    ],
)
def test_values_without_a_defined_white_are_rejected(values: NDArray[np.generic]) -> None:
    with pytest.raises(InvalidInput, match=r"values range from .* so black and white are not defined"):
        convert_to_upright_rgb(Image.fromarray(values))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_rejected(tmp_path: Path, value: float) -> None:
    path = tmp_path / "nan.tif"
    Image.fromarray(np.array([[0, value]], np.float32)).save(path)
    with pytest.raises(UnreadableImage, match="not finite"):
        load_image(path)


def test_lab_is_converted() -> None:
    assert np.asarray(convert_to_upright_rgb(Image.new("LAB", (2, 2), (255, 128, 128)))).min() >= 254


def test_odd_files_are_distinct_and_all_unreadable(tmp_path: Path) -> None:
    count = 6 * len(KINDS)
    paths = write_odd_files(tmp_path, count)
    assert len(set(paths)) == count == len(find_images(tmp_path))
    reasons = {}
    for path in paths:
        with pytest.raises(UnreadableImage) as caught:
            load_image(path)
        assert caught.value.path == path
        reasons[path.name.split("-", 2)[2]] = caught.value.reason
    assert reasons["empty.jpg"] == "the file is empty"
    assert "truncated" in reasons["truncated-jpeg.jpg"]
    assert "more than the 250000000 allowed" in reasons["bomb-png.png"]
    assert "begins like PNG but is damaged" in reasons["damaged-png-header.png"]
    assert "not a picture in a format that can be read" in reasons["postscript.jpg"]
    assert "no such file" in reasons["link-to-nowhere.jpg"]


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damage_gives_an_image_or_unreadable_image(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph(3, width=40, height=30)).save(buffer, suffix)
    whole = buffer.getvalue()
    chance = random.Random(suffix)
    path = tmp_path / "damaged"
    outcomes = set()
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(chance.randint(0, 6)):
            content[chance.randrange(min(len(content), chance.choice([64, len(content)])))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        try:
            outcomes.add(load_image(path, max_pixels=1_000_000).mode)
        except UnreadableImage:  # or TooManyPixels, if the damage changed the size
            outcomes.add("rejected")
    assert outcomes == {"RGB", "rejected"}


def test_what_is_not_a_regular_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name, reason in [
        ("folder.jpg", "it is a folder"),
        ("pipe.jpg", "not a regular file"),
        ("loop.jpg", "cannot be decoded"),
        ("missing.jpg", "no such file"),
        ("no\0name.jpg", "null"),
        ("n" * 5000, "cannot be decoded"),
    ]:
        with pytest.raises(UnreadableImage, match=reason):
            load_image(tmp_path / name)


def test_a_file_without_permission_is_rejected(tmp_path: Path) -> None:
    path = write_odd_but_good(tmp_path)[0]
    path.chmod(0)
    with without_privileges(tmp_path), pytest.raises(UnreadableImage, match="no permission"):
        load_image(path)


def test_a_folder_without_permission_is_listed(tmp_path: Path) -> None:
    write_odd_but_good(tmp_path / "closed")
    (tmp_path / "open.jpg").touch()
    (tmp_path / "closed").chmod(0)
    try:
        with without_privileges(tmp_path):
            assert find_images(tmp_path) == [tmp_path / "closed", tmp_path / "open.jpg"]
            with pytest.raises(UnreadableImage, match="no permission"):
                load_image(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(stat.S_IRWXU)


@contextmanager
def without_privileges(folder: Path) -> Iterator[None]:
    """Root can read everything, so switch to a user who can reach the folder."""
    if os.geteuid() != 0:
        yield
        return
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_nothing_is_decoded_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (300, 200)).save(path)
    assert load_image(path, max_pixels=60_000).size == (300, 200)

    def refuse_to_load(self: object) -> None:
        raise AssertionError("decoded an image that should have been rejected")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse_to_load)
    with pytest.raises(UnreadableImage, match="300 x 200 = 60000 pixels, more than the 59999 allowed"):
        load_image(path, max_pixels=59_999)


def test_a_hundred_megapixels_decode_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("L", (11_000, 9_000), 99).save(path)
    picture = load_image(path, min_side=300)  # Pillow itself warns above 89 megapixels
    assert picture.size == (1375, 1125)
    assert picture.getpixel((700, 500)) == (99, 99, 99)


def test_warnings_of_pillow_are_suppressed(tmp_path: Path) -> None:
    path = tmp_path / "broken-exif.jpg"
    header = b"Exif\0\0II*\0\x08\0\0\0" + b"\x01\0" + b"\x0f\x01\x02\0\xff\xff\0\0\xff\xff\0\0" + bytes(4)
    Image.fromarray(photograph(4)).save(path, exif=header)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Image.open(path).getexif().get(0x0112)
    assert caught, "this file no longer makes Pillow warn; the test needs another one"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path).size == (96, 64)


@pytest.mark.parametrize(
    ("min_side", "expected"), [(None, 800), (500, 800), (400, 800), (200, 400), (60, 200), (10, 100)]
)
def test_jpegs_are_decoded_no_larger_than_needed(tmp_path: Path, min_side: int | None, expected: int) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(photograph(5, width=1000, height=800)).save(path)
    picture = load_image(path, min_side=min_side)
    assert min(picture.size) == expected
    small = (50, 40)
    whole = np.asarray(load_image(path).resize(small, Image.Resampling.BOX), dtype=np.int16)
    assert np.abs(np.asarray(picture.resize(small, Image.Resampling.BOX), dtype=np.int16) - whole).mean() < 2


@pytest.mark.parametrize(
    ("width", "height", "size", "side", "expected"),
    [
        (400, 300, 150, "min", (200, 150)),
        (300, 400, 150, "min", (150, 200)),
        (400, 300, 200, "max", (200, 150)),
        (10, 10, 224, "min", (224, 224)),
        (1, 10_000, 224, "min", (224, 1792)),
        (10_000, 1, 224, "max", (224, 28)),
        (1, 1, 32, "max", (32, 32)),
    ],
)
def test_shapes_are_scaled(width: int, height: int, size: int, side: str, expected: tuple[int, int]) -> None:
    assert scale_shape(width, height, size, side=side) == expected  # type: ignore[arg-type]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 1050))
def test_resizing_keeps_the_aspect_ratio(width: int, height: int, size: int) -> None:
    for side, reference in (("min", min), ("max", max)):
        new_width, new_height = scale_shape(width, height, size, side=side)  # type: ignore[arg-type]
        assert reference(new_width, new_height) == size
        assert max(new_width, new_height) <= 8 * min(new_width, new_height) + 8
        if max(width, height) <= 7 * min(width, height):
            assert abs(new_width * height - new_height * width) <= max(width, height)


def test_every_format_has_a_suffix() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".bmp", ".avif", ".heic"} <= images.SUFFIXES
