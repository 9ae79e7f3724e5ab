"""Pivots: the descriptors whose names are codewords, and how to choose them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepterms.errors import InvalidInput

__all__ = ["FAR_QUANTILE", "Metric", "Pivots", "Reach", "find_pivots", "measure_nearest_cosines", "measure_reach"]

Metric: TypeAlias = Literal["cosine", "l2"]
"""How near a descriptor is to a pivot: ``cosine`` similarity, or ``l2``, the Euclidean distance."""

# A descriptor counts as far from every pivot if it is farther than this share of them was at first.
FAR_QUANTILE = 0.05

# A descriptor and itself in float16.
SAME = 0.9999
# Pivots that are compared at once: 8,192 × 1,280 are 42 MB in float32.
PIVOTS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Reach:
    """Quantiles of the cosine between a descriptor and the pivot nearest to it.

    Attributes:
        low: one descriptor in twenty is farther from every pivot.
        middle: the median.
        rows: how many descriptors it is drawn from.
    """

    low: float
    middle: float
    rows: int


@dataclass(frozen=True, eq=False, repr=False)
class Pivots:
    """Reference descriptors; two are equal if every number is.

    They are kept in float16, the form in which they are stored with an index: whoever opens it encodes bit for bit as
    whoever made it. For the metric ``cosine`` each is normalised before it is rounded.

    Args:
        features: (P, D) numbers; row p is the pivot of codeword ``t{p}``.
        metric: by which descriptors are compared with them.
        reach: how near to them the descriptors lay from which they were chosen (`measure_reach`), if that is known. No part
            of what they are: it is kept beside them, so that it shows when a collection grows away from its pivots.

    Attributes:
        features: float16 (P, D).

    Raises:
        InvalidInput: no rows, a row that is not finite in float16, or, for ``cosine``, one without direction.
    """

    features: NDArray[np.float16]
    metric: Metric = "cosine"
    reach: Reach | None = None

    def __init__(self, features: ArrayLike, *, metric: Metric = "cosine", reach: Reach | None = None) -> None:
        if metric not in get_args(Metric):
            raise InvalidInput(f"metric is {metric!r}; expected one of {', '.join(get_args(Metric))}")
        array = np.asarray(features)
        if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
            raise InvalidInput(f"pivots have shape {array.shape} of {array.dtype}; expected numbers (P, D)")
        if array.dtype != np.float16:
            array = _rounded(array.astype(np.float32, copy=False), metric)
        if not np.isfinite(array).all():
            raise InvalidInput("a pivot has a NaN or infinite component in float16; leave it out, or scale all of them")
        if metric == "cosine" and not array.any(axis=1).all():
            raise InvalidInput(f"pivot {int(np.argmin(array.any(axis=1)))} is all zero in float16: it has no direction")
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
        """In the name of an encoder: ``4096x1280/cosine/0a1b2c3d``."""
        return f"{len(self)}x{self.dimensions}/{self.metric}/{self.checksum[:8]}"

    @cached_property
    def checksum(self) -> str:
        """SHA-256, in hexadecimal, of metric, shape and every number (little-endian float16, row by row)."""
        digest = hashlib.sha256(f"{self.metric} {len(self)} {self.dimensions} ".encode())
        digest.update(self.features.astype("<f2", copy=False).data)
        return digest.hexdigest()

    def spec(self) -> dict[str, Any]:
        """What an encoder's spec says of its pivots; the numbers are stored beside the index."""
        return {
            "checksum": self.checksum,
            "count": len(self),
            "dimensions": self.dimensions,
            "metric": self.metric,
        }


def _rounded(array: NDArray[np.float32], metric: Metric) -> NDArray[np.float16]:
    if metric == "cosine":
        norms = np.linalg.norm(array, axis=1, keepdims=True)
        if not norms.all():
            raise InvalidInput(f"pivot {int(np.argmin(norms))} is all zero, so it has no direction; leave it out")
        array = array / norms
    with np.errstate(over="ignore"):  # infinity is refused by the caller
        rounded: NDArray[np.float16] = array.astype(np.float16)
    return rounded


def find_pivots(encoder: object) -> Pivots | None:
    """The pivots on which an encoder depends; None for one that its spec alone describes."""
    pivots = getattr(encoder, "pivots", None)
    return pivots if isinstance(pivots, Pivots) else None


def measure_reach(features: NDArray[np.float32], pivots: Pivots) -> Reach | None:
    """The reach of pivots among descriptors, those left out that are pivots themselves.

    Args:
        features: float32 (n, D), of the collection for which the pivots were chosen; no row all zero.
        pivots: P of them.

    Returns:
        Quantiles; None if nothing is left.
    """
    cosines = measure_nearest_cosines(features, pivots)
    cosines = cosines[cosines < SAME]
    if not len(cosines):
        return None
    low, middle = np.quantile(cosines, [FAR_QUANTILE, 0.5])
    return Reach(low=float(low), middle=float(middle), rows=len(cosines))


def measure_nearest_cosines(features: NDArray[np.float32], pivots: Pivots) -> NDArray[np.float32]:
    """The cosine of each descriptor with the pivot nearest to it by cosine, whatever the metric of the pivots.

    Args:
        features: float32 (n, D), no row all zero.
        pivots: P of them.

    Returns:
        float32 (n,); −1 where no pivot has a direction.
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
