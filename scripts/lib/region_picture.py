"""Draws the regions of R-MAC on a photograph for docs/pictures/regions.jpg: level 1 on the left, level 2 on the right.

region_picture.py PHOTO TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from deepterms.features import BACKBONES, load_image
from deepterms.features.regions import place_regions

HEIGHT, GAP = 320, 12
COLOURS = ("#f6ad55", "#4fd1c5", "#f687b3")
QUALITY = 88


def main(photo: Path, target: Path) -> None:
    """Draw the square regions of the default network's feature map on this photograph."""
    backbone = BACKBONES["efficientnet_lite0"]
    picture = load_image(photo)
    shorter = max(backbone.sizes) // backbone.stride  # cells along the shorter side
    cells = [round(shorter * side / min(picture.size)) for side in picture.size]
    grid = place_regions(cells[1], cells[0])
    picture = picture.resize((round(HEIGHT * picture.width / picture.height), HEIGHT))
    cell = picture.width / cells[0], picture.height / cells[1]
    both = Image.new("RGB", (2 * picture.width + GAP, HEIGHT), "white")
    for half, side in enumerate(sorted({side for _, _, side in grid.tolist()}, reverse=True)):
        drawn = picture.copy()
        pen = ImageDraw.Draw(drawn)
        for number, (top, left, _) in enumerate(region for region in grid.tolist() if region[2] == side):
            inset = 3 * (number % 3) + 2  # so that coinciding edges all stay visible
            corners = [left * cell[0] + inset, top * cell[1] + inset]
            corners += [(left + side) * cell[0] - inset, (top + side) * cell[1] - inset]
            pen.rectangle(corners, outline=COLOURS[number % 3], width=4)
        both.paste(drawn, (half * (picture.width + GAP), 0))
    both.save(target, quality=QUALITY)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
