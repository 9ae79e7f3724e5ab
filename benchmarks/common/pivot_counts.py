"""Choose a number of pivots by the number of documents alone, the same in every run of a benchmark."""

from __future__ import annotations

import math

__all__ = ["choose_pivot_count"]

MIN_PIVOTS = 256
MAX_PIVOTS = 65_536


def choose_pivot_count(documents: int) -> int:
    """Choose a power of two: documents / 4 up to 4,096, / 32 up to 8,192, and / 64 beyond."""
    share = max(1.0, min(documents / 4, 4_096), min(documents / 32, 8_192), documents / 64)
    return max(MIN_PIVOTS, min(int(2 ** round(math.log2(share))), MAX_PIVOTS))
