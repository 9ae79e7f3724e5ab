"""Pivots: reference descriptors that serve as codewords, and their reach, that is, how near other descriptors lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.arrays import Features, as_array
from deepterms.errors import InvalidInput

__all__ = ["FAR_QUANTILE", "Metric", "Pivots", "Reach", "find_pivots", "measure_nearest_cosines", "measure_reach"]

Metric: TypeAlias = Literal["cosine", "l2"]
"""The measure of nearness: ``cosine`` similarity, or ``l2``, the Euclidean distance."""

# A descriptor is far from every pivot if its nearest cosine is below this quantile of the original sample.
FAR_QUANTILE = 0.05
# From this cosine on, a pivot is taken to be the descriptor itself, rounded to float16.
SAME = 0.9999
# Pivots compared at once: 8,192 × 1,280 are 42 MB in float32.
PIVOTS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Reach:
    """How near descriptors lie to pivots: quantiles of the cosine with the nearest pivot.

    Attributes:
        low: the 5% quantile; one descriptor in twenty lies farther from every pivot.
        middle: the median.
        rows: the number of descriptors measured.
    """

    low: float
    middle: float
    rows: int


@dataclass(frozen=True, eq=False, repr=False)
class Pivots:
    """Reference descriptors. Pivots are equal if their metric and all their numbers are.

    They are held in float16, the form in which an index stores them, so that whoever opens the index encodes bit for
    bit like its creator. For the metric ``cosine``, each is normalised before rounding.

    Args:
        features: numbers (P, D); row p is the pivot of codeword ``t{p}``.
        metric: the measure of nearness.
        reach: how near the collection's descriptors lay when the pivots were chosen (`measure_reach`), if known. It is
            metadata, not part of the pivots' identity, and shows later whether a collection has drifted away.

    Attributes:
        features: float16 (P, D).

    Raises:
        InvalidInput: there are no rows; a row is not finite in float16; or, for ``cosine``, a row is all zero.
    """

    features: NDArray[np.float16]
    metric: Metric = "cosine"
    reach: Reach | None = None

    def __init__(self, features: Features, *, metric: Metric = "cosine", reach: Reach | None = None) -> None:
        if metric not in get_args(Metric):
            raise InvalidInput(f"metric is {metric!r}; expected one of {', '.join(get_args(Metric))}")
        array = as_array(features, name="pivots")
        if array.ndim != 2 or not array.size:
            raise InvalidInput(f"pivots have shape {array.shape} and dtype {array.dtype}; expected numbers (P, D)")
        if array.dtype != np.float16:
            array = _round_to_float16(array.astype(np.float32, copy=False), metric)
        if not np.isfinite(array).all():
            raise InvalidInput("a pivot has a NaN or infinite component in float16; remove it, or scale all of them")
        if metric == "cosine" and not array.any(axis=1).all():
            row = int(np.argmin(array.any(axis=1)))
            raise InvalidInput(f"pivot {row} is all zero in float16, so it has no direction; remove it")
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
        object.__setattr__(self, "features", array)
        object.__setattr__(self, "metric", metric)
        object.__setattr__(self, "reach", reach)

    def __repr__(self) -> str:
        return f"Pivots({len(self)} x {self.dimensions}, {self.metric}, {self.checksum[:8]})"

    def __len__(self) -> int:
        return len(self.features)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pivots) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.features.shape[1])

    @property
    def label(self) -> str:
        """The part of an encoder's name that identifies its pivots: ``4096x1280/cosine/0a1b2c3d``."""
        return f"{len(self)}x{self.dimensions}/{self.metric}/{self.checksum[:8]}"

    @cached_property
    def checksum(self) -> str:
        """Hexadecimal SHA-256 of the metric, the shape and all numbers (little-endian float16, row by row)."""
        digest = hashlib.sha256(f"{self.metric} {len(self)} {self.dimensions} ".encode())
        digest.update(self.features.astype("<f2", copy=False).data)
        return digest.hexdigest()

    def spec(self) -> dict[str, Any]:
        """The pivots' entry in an encoder's spec. It identifies them; their numbers are stored with the index."""
        return {
            "checksum": self.checksum,
            "count": len(self),
            "dimensions": self.dimensions,
            "metric": self.metric,
        }


def _round_to_float16(array: NDArray[np.float32], metric: Metric) -> NDArray[np.float16]:
    if metric == "cosine":
        norms = np.linalg.norm(array, axis=1, keepdims=True)
        if not norms.all():
            raise InvalidInput(f"pivot {int(np.argmin(norms))} is all zero, so it has no direction; remove it")
        array = array / norms
    with np.errstate(over="ignore"):  # the caller rejects infinity
        rounded: NDArray[np.float16] = array.astype(np.float16)
    return rounded


def find_pivots(encoder: object) -> Pivots | None:
    """Return the pivots of an encoder, or None if its spec alone describes it."""
    pivots = getattr(encoder, "pivots", None)
    return pivots if isinstance(pivots, Pivots) else None


def measure_reach(features: NDArray[np.float32], pivots: Pivots) -> Reach | None:
    """Measure the reach of pivots among descriptors, leaving out descriptors that are pivots themselves.

    Args:
        features: float32 (n, D), from the collection for which the pivots were chosen; no row all zero.
        pivots: P pivots.

    Returns:
        The reach; None if no descriptor is left.
    """
    cosines = measure_nearest_cosines(features, pivots)
    cosines = cosines[cosines < SAME]
    if not len(cosines):
        return None
    low, middle = np.quantile(cosines, [FAR_QUANTILE, 0.5])
    return Reach(low=float(low), middle=float(middle), rows=len(cosines))


def measure_nearest_cosines(features: NDArray[np.float32], pivots: Pivots) -> NDArray[np.float32]:
    """Measure each descriptor's cosine with its nearest pivot by cosine, whatever the metric of the pivots.

    Args:
        features: float32 (n, D), no row all zero.
        pivots: P pivots.

    Returns:
        float32 (n,); −1 if all pivots are zero.
    """
    nearest = np.full(len(features), -1, dtype=np.float32)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    for start in range(0, len(pivots), PIVOTS_AT_ONCE):
        block = pivots.features[start : start + PIVOTS_AT_ONCE].astype(np.float32)
        norms = np.linalg.norm(block, axis=1)
        block, norms = block[norms > 0], norms[norms > 0]
        if len(block):
            np.maximum(nearest, (features @ block.T / norms).max(axis=1), out=nearest)
    return nearest
