from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from deepterms.evaluation.photos.transforms import TRANSFORMS

GEOMETRIC = ["crop", "mirror", "perspective", "rotation"]


def _photograph(width: int = 120, height: int = 80) -> Image.Image:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_view_is_a_new_image_and_reproducible(name: str) -> None:
    first, again = (TRANSFORMS[name](_photograph(), random.Random("100101")) for _ in range(2))
    assert first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != _photograph().tobytes()


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (300, 90), (64, 64)])
def test_no_view_shows_anything_outside_the_photograph(name: str, size: tuple[int, int]) -> None:
    white = Image.new("RGB", size, "white")
    for seed in range(20):
        view = TRANSFORMS[name](white, random.Random(seed))
        assert np.asarray(view).min() == 255, f"seed {seed}"
        assert min(view.size) > 0.5 * min(size)


def test_mirror_swaps_left_and_right() -> None:
    view = TRANSFORMS["mirror"](_photograph(), random.Random(0))
    assert np.array_equal(np.asarray(view), np.asarray(_photograph())[:, ::-1])


def test_crop_keeps_at_most_three_quarters_of_each_side() -> None:
    for seed in range(20):
        width, height = TRANSFORMS["crop"](_photograph(), random.Random(seed)).size
        assert 0.59 * 120 <= width <= 0.76 * 120
        assert 0.59 * 80 <= height <= 0.76 * 80


def test_brightness_is_clearly_darker_or_brighter() -> None:
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    levels = {int(np.asarray(TRANSFORMS["brightness"](grey, random.Random(seed))).mean()) for seed in range(30)}
    assert any(level <= 60 for level in levels)
    assert any(level >= 150 for level in levels)
    assert not any(60 < level < 150 for level in levels)
