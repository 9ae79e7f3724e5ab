"""HEIC and AVIF pictures are decoded, or rejected with the extra that decodes them."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepterms.errors import TooManyPixels, UnreadableImage
from deepterms.features.formats import detect_iso_format, register_plugins
from deepterms.features.images import decode_image, load_image
from tests.unit.features.odd_files import photograph

needs_pillow_heif = pytest.mark.skipif(
    find_spec("pillow_heif") is None, reason="pillow-heif is not installed: the extra heif"
)


def file_type(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body


def encode(kind: str, *, orientation: int = 1, width: int = 96) -> bytes:
    register_plugins()
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = photograph(1, width=width, height=width * 2 // 3)
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()  # where pillow-heif looks for it, to store a rotation (irot) as well
    image.save(buffer, kind, quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (file_type(b"heic", b"mif1", b"heic"), "HEIF"),
        (file_type(b"mif1", b"heic"), "HEIF"),
        (file_type(b"mif1", b"miaf"), "HEIF"),
        (file_type(b"avif", b"mif1"), "AVIF"),
        (file_type(b"mif1", b"miaf", b"avif"), "AVIF"),
        (file_type(b"avis", b"msf1"), "AVIF"),
        (file_type(b"isom", b"mp41"), None),
        (file_type(b"isom") + b"avif", None),
        (b"\0\0\0\x18ftyp", None),
        (b"", None),
    ],
)
def test_brands_tell_the_format(header: bytes, expected: str | None) -> None:
    assert detect_iso_format(header) == expected


@pytest.mark.parametrize(("kind", "brand"), [("HEIF", b"heic"), ("AVIF", b"avif")])
def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, brand: bytes) -> None:
    register_plugins()
    monkeypatch.delitem(Image.OPEN, kind, raising=False)
    path = tmp_path / "IMG_0001.jpg"
    path.write_bytes(file_type(brand, b"mif1", brand) + bytes(1000))
    with pytest.raises(UnreadableImage) as caught:
        load_image(path)
    assert kind in caught.value.reason
    assert 'pip install "deepterms[heif]"' in caught.value.reason


def test_avif_with_a_shared_brand_is_decoded() -> None:
    content = encode("AVIF")
    assert content[8:12] == b"avif"
    shared = content[:8] + b"mif1" + content[12:]
    picture = decode_image(io.BytesIO(shared), name="avif")
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(decode_image(io.BytesIO(content), name="avif")))


@needs_pillow_heif
@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_decoded(brand: bytes) -> None:
    content = encode("HEIF")
    picture = decode_image(io.BytesIO(content[:8] + brand + content[12:]), name="heic")
    assert np.abs(np.asarray(picture, dtype=int) - photograph(1)).mean() < 8


@needs_pillow_heif
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_heic_is_turned_upright_once(orientation: int, turn: int) -> None:
    picture = decode_image(io.BytesIO(encode("HEIF", orientation=orientation)), name="heic")
    expected = np.rot90(photograph(1), turn)
    assert picture.size == expected.shape[1::-1]
    assert np.abs(np.asarray(picture, dtype=int) - expected).mean() < 8


@needs_pillow_heif
def test_heic_is_decoded_in_full() -> None:
    content = encode("HEIF", width=1200)
    assert decode_image(io.BytesIO(content), name="heic", min_side=64).size == (1200, 800)


@needs_pillow_heif
def test_limits_hold_for_heic() -> None:
    content = encode("HEIF")
    with pytest.raises(TooManyPixels):
        decode_image(io.BytesIO(content), name="heic", max_pixels=96 * 64 - 1)
    with pytest.raises(UnreadableImage):
        decode_image(io.BytesIO(content[: len(content) // 2]), name="heic")
