"""The definitions of the nearest pivots and of SOAR losses, to compare the search with."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

import deepterms as dt

__all__ = ["compute_losses", "rank_by_definition"]


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


def compute_losses(pivots: dt.Pivots, feature: NDArray[np.float32], taken: list[int]) -> NDArray[np.longdouble]:
    """Compute the SOAR losses of all pivots, given those taken, one term after the other; (P,)."""
    x, rows = feature.astype(np.longdouble), pivots.features.astype(np.longdouble)
    longest = np.sqrt((rows**2).sum(axis=1).max()) or 1
    reach = (np.sqrt(x @ x) + longest) / longest
    if pivots.metric == "cosine":
        x, rows, longest, reach = x / np.sqrt(x @ x), rows / np.sqrt((rows**2).sum(axis=1))[:, np.newaxis], 1, 2
    losses = []
    for c in rows:
        loss = (x - c) @ (x - c)
        for number in taken:
            other = x - rows[number]
            if np.sqrt(other @ other) > reach * longest * 2.0**-18:  # otherwise rounding
                loss += (other @ (x - c)) ** 2 / (other @ other)
        losses.append(loss / longest**2)
    return np.array(losses)
