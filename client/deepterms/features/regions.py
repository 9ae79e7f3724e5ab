"""The height and width of a feature map into the square regions that R-MAC pools.

The grid is that of Tolias, Sicre and Jégou, "Particular object retrieval with integral max-pooling of CNN activations"
(ICLR 2016, Section 3.2), which Gordo et al. and the paper use. At level l the side is floor(2·min(H, W) / (l + 1));
level l has l regions along the short side of the map and l + m along the long one, where m brings the overlap of
neighbours at level 1 as close to 40 % as whole numbers allow (m = 0 for a square map). The whole map is not an
additional region.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import InvalidInput

__all__ = ["DEFAULT_LEVELS", "place_regions"]

DEFAULT_LEVELS = 2  # as in the code of Gordo et al., whose descriptors the paper indexes
MAX_TRIED = 7  # regions along the long side; the authors' code stops here, but longer maps need more


def place_regions(height: int, width: int, *, levels: int = DEFAULT_LEVELS) -> NDArray[np.int64]:
    """Place the regions of a feature map.

    Args:
        height: rows of the feature map.
        width: columns of the feature map.
        levels: number of scales L. Levels with a side below one cell are skipped; level 1 never is.

    Returns:
        int64 (R, 3): top, left and side in cells; by level, then top to bottom, then left to right. On small maps some
        regions coincide and are counted each time, as in the authors' code.
    """
    if height < 1 or width < 1:
        raise InvalidInput(f"the feature map has {height} x {width} cells; expected at least 1 x 1")
    if levels < 1:
        raise InvalidInput(f"levels is {levels}; expected 1 or more")
    short, long = min(height, width), max(height, width)
    extra = _count_extra_regions(short, long)
    rows, columns = (extra, 0) if height > width else (0, extra)
    grids = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            break
        top, left = np.meshgrid(
            _spread_starts(height - side, level + rows), _spread_starts(width - side, level + columns), indexing="ij"
        )
        grids.append(np.stack([top.ravel(), left.ravel(), np.full(top.size, side)], axis=1))
    return np.concatenate(grids)


def _count_extra_regions(short: int, long: int) -> int:
    """Count the regions after the first along the long side of level 1, for an overlap as close to 40 % as possible."""
    if short == long:
        return 0
    # The best number of steps is close to (long - short) / (0.6 · short).
    most = max(MAX_TRIED, 10 * (long - short) // (6 * short) + 3)
    steps = np.arange(1, most)
    # |overlap - 40 %| times 10 · short, where overlap is 1 - (long - short) / (steps · short). As integers divided by
    # steps, so that rounding errors do not decide ties (5 x 9: 20 % or 60 %), which go to fewer regions.
    off = np.abs(6 * short * steps - 10 * (long - short)) / steps
    return int(steps[np.argmin(off)])


def _spread_starts(slack: int, count: int) -> NDArray[np.int64]:
    """Spread the first cells of `count` regions evenly over `slack` + 1 positions; int64 (count,)."""
    return np.arange(count, dtype=np.int64) * slack // max(count - 1, 1)
