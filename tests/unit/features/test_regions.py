from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepterms.errors import InvalidInput
from deepterms.features.regions import place_regions


def authors_grid(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """The MATLAB code of Tolias et al. line by line, with exact fractions instead of floats."""
    w = min(height, width)
    distances = [
        abs((w * w - w * Fraction(max(height, width) - w, steps - 1)) / Fraction(w * w) - Fraction(4, 10))
        for steps in range(2, 8)
    ]
    index = distances.index(min(distances)) + 1
    extra_width, extra_height = (index if height < width else 0), (index if height > width else 0)
    regions = []
    for level in range(1, levels + 1):
        side = math.floor(Fraction(2 * w, level + 1))
        if side == 0:
            continue
        half = math.floor(Fraction(side, 2) - 1)

        def starts(length: int, extra: int, level: int = level, side: int = side, half: int = half) -> list[int]:
            step = Fraction(length - side, level + extra - 1) if level + extra > 1 else Fraction(0)
            return [math.floor(half + step * number) - half for number in range(level + extra)]

        regions += [(top, left, side) for top in starts(height, extra_height) for left in starts(width, extra_width)]
    return regions


@pytest.mark.parametrize(
    ("height", "width", "levels", "expected"),
    [
        (1, 1, 1, [(0, 0, 1)]),
        (1, 1, 3, [(0, 0, 1)]),  # sides of levels 2 and 3 would be 0
        (3, 3, 2, [(0, 0, 3), (0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)]),
        (6, 6, 1, [(0, 0, 6)]),
        (4, 6, 1, [(0, 0, 4), (0, 2, 4)]),  # one more region overlaps by 50 %, two more by 75 %
        (6, 4, 1, [(0, 0, 4), (2, 0, 4)]),
        (5, 9, 1, [(0, 0, 5), (0, 4, 5)]),  # 20 % and 60 % are equally far from 40 %
        (4, 6, 2, [(0, 0, 4), (0, 2, 4), (0, 0, 2), (0, 2, 2), (0, 4, 2), (2, 0, 2), (2, 2, 2), (2, 4, 2)]),
        # EfficientNet on a 4:3 image with a shorter side of 224
        (7, 10, 2, [(0, 0, 7), (0, 3, 7), (0, 0, 4), (0, 3, 4), (0, 6, 4), (3, 0, 4), (3, 3, 4), (3, 6, 4)]),
        (2, 9, 1, [(0, 0, 2), (0, 1, 2), (0, 2, 2), (0, 3, 2), (0, 4, 2), (0, 5, 2), (0, 7, 2)]),
    ],
)
def test_grids_worked_by_hand(height: int, width: int, levels: int, expected: list[tuple[int, int, int]]) -> None:
    assert place_regions(height, width, levels=levels).tolist() == [list(region) for region in expected]


def test_third_level_of_a_square_map() -> None:
    grid = place_regions(6, 6, levels=3)
    assert len(grid) == 1 + 4 + 9
    assert grid[5:, 2].tolist() == [3] * 9
    assert sorted(set(grid[5:, 0])) == sorted(set(grid[5:, 1])) == [0, 1, 3]


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_equals_the_code_of_the_authors(levels: int) -> None:
    # Beyond an aspect ratio of 4.5 their code has too few regions and leaves gaps; ours adds more.
    for height in range(1, 25):
        for width in range(1, 25):
            if max(height, width) <= 4.5 * min(height, width):
                expected = authors_grid(height, width, levels)
                assert [tuple(r) for r in place_regions(height, width, levels=levels).tolist()] == expected


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_regions_lie_inside_and_cover_the_map(height: int, width: int, levels: int) -> None:
    grid = place_regions(height, width, levels=levels)
    covered = np.zeros((height, width), dtype=bool)
    for top, left, side in grid.tolist():
        assert 0 <= top <= height - side
        assert 0 <= left <= width - side
        covered[top : top + side, left : left + side] = True
    assert covered.all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_turning_the_map_turns_the_grid(height: int, width: int, levels: int) -> None:
    turned = place_regions(width, height, levels=levels)[:, [1, 0, 2]]
    assert sorted(turned.tolist()) == sorted(place_regions(height, width, levels=levels).tolist())


@pytest.mark.parametrize(("height", "width", "levels"), [(0, 5, 1), (5, 0, 1), (-1, 5, 2), (5, 5, 0)])
def test_empty_maps_and_zero_levels_are_rejected(height: int, width: int, levels: int) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        place_regions(height, width, levels=levels)
