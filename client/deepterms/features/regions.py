"""A feature map's height and width into the square regions that R-MAC pools.

The grid of Tolias, Sicre and Jégou, "Particular object retrieval with integral max-pooling of CNN activations" (ICLR
2016, Section 3.2), the one that Gordo et al. and the paper use. At level l the side is floor(2·min(H, W) / (l + 1));
level l has l regions along the short side of the map and l + m along the long one, where m makes neighbours of level 1
overlap by as nearly 40 % as whole numbers allow (m = 0 for a square map). The whole map is not a region of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["DEFAULT_LEVELS", "region_grid"]

DEFAULT_LEVELS = 2  # as in the code of Gordo et al., whose descriptors the paper indexes
MAX_TRIED = 7  # regions along the long side; the authors' code stops here, longer maps need more


def region_grid(height: int, width: int, *, levels: int = DEFAULT_LEVELS) -> NDArray[np.int64]:
    """Places the regions of a feature map.

    Args:
        height: rows of the feature map.
        width: columns of the feature map.
        levels: number of scales L. Levels whose side would be below one cell are left out; level 1 never is.

    Returns:
        int64 (R, 3): top, left and side in cells; by level, then top to bottom, then left to right. On small maps some
        regions coincide and count as often as they occur, as in the authors' code.
    """
    if height < 1 or width < 1:
        raise InvalidInput(f"a feature map of {height} x {width} cells has no regions; expected at least 1 x 1")
    if levels < 1:
        raise InvalidInput(f"levels is {levels}; expected 1 or more")
    short, long = min(height, width), max(height, width)
    extra = _extra_regions(short, long)
    rows, columns = (extra, 0) if height > width else (0, extra)
    grids = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            break
        top, left = np.meshgrid(
            _starts(height - side, level + rows), _starts(width - side, level + columns), indexing="ij"
        )
        grids.append(np.stack([top.ravel(), left.ravel(), np.full(top.size, side)], axis=1))
    return np.concatenate(grids)


def _extra_regions(short: int, long: int) -> int:
    """Regions beyond the first along the long side of level 1, for an overlap as near to 40 % as possible."""
    if short == long:
        return 0
    # The best number of steps is next to (long - short) / (0.6 · short).
    most = max(MAX_TRIED, 10 * (long - short) // (6 * short) + 3)
    steps = np.arange(1, most)
    # |overlap - 40 %|, where overlap is 1 - (long - short) / (steps · short), times 10 · short: integers over steps, so
    # that ties (5 x 9: 20 % or 60 %) go to the fewer regions instead of to a rounding error.
    off = np.abs(6 * short * steps - 10 * (long - short)) / steps
    return int(steps[np.argmin(off)])


def _starts(slack: int, count: int) -> NDArray[np.int64]:
    """First cells of `count` regions spread evenly over `slack` + 1 positions; int64 (count,)."""
    return np.arange(count, dtype=np.int64) * slack // max(count - 1, 1)
