"""The definition of the nearest pivots in exact arithmetic, to compare the search with."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

import deepterms as dt

__all__ = ["rank_by_definition"]


def rank_by_definition(pivots: dt.Pivots, feature: NDArray[np.float32], count: int) -> list[int]:
    """Find the nearest pivots by fractions. They are exact, so use only numbers that the grid does not round."""
    q = [Fraction(float(x)) for x in feature]
    keys = []
    for number, row in enumerate(pivots.features):
        p = [Fraction(float(x)) for x in row]
        product = sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0))
        if pivots.metric == "cosine":  # sign · squared cosine ranks as the cosine does
            near = product * abs(product) / sum((a * a for a in p), Fraction(0))
        else:
            near = -sum(((a - b) ** 2 for a, b in zip(p, q, strict=True)), Fraction(0))
        keys.append((-near, number))
    return [number for _, number in sorted(keys)[:count]]
