"""Sampling: the pivots of a collection, chosen among its own descriptors or made from them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.inputs import reject_unusable
from deepterms.encoders.pivots.nearest import NearestPivots, select_search
from deepterms.encoders.pivots.pivots import Metric, Pivots, Reach, measure_reach
from deepterms.errors import InvalidInput

__all__ = ["SamplingMethod", "count_rows_needed", "move_to_centroids", "sample_pivots"]

SamplingMethod: TypeAlias = Literal["mixtures", "rows", "farthest", "kmeans"]
"""How pivots are made of descriptors; see `sample_pivots`."""

# Farthest-first compares every pivot with every row that it may take, so it looks at a sample of them.
FARTHEST_ROWS_PER_PIVOT = 8
# With 4,096 pivots of 100,000 mixtures, 16 words and 1,000 candidates R@10 was .979, and .980 after ten iterations of
# faiss with 24 rows a pivot, which took thirty times as long.
KMEANS_ROWS_PER_PIVOT = 8
KMEANS_ITERATIONS = 2
# Up to so many pivots are centroids for ``auto``, if there are so many rows a pivot: of 3,000 mixtures 1,024 of them
# found .976 to .995 by preset, mixtures .925 to .988. Of 500,000 mixtures 16,384 found .991 and not .982, with 16 words
# and 1,000 candidates, but 671 MB of rows are read for those, and the fill took 1.14 times as long.
MAX_CENTROIDS = 8_192
MIN_ROWS_PER_CENTROID = 2
MIXED_ROWS = 2  # of which a mixture is made
MIXTURES_AT_ONCE = 16_384
# Rows that are compared with all pivots for their reach: with a million of them 200, in some seconds.
MAX_REACH_ROWS = 1_000
MIN_REACH_ROWS = 200
REACH_COMPARISONS = 10**8


def count_rows_needed(count: int) -> int:
    """How many rows `sample_pivots` takes for so many pivots by ``auto`` and their reach, if there are as many."""
    return (KMEANS_ROWS_PER_PIVOT if count <= MAX_CENTROIDS else MIXED_ROWS) * count + _reach_rows(count)


def sample_pivots(
    features: NDArray[Any],
    count: int,
    *,
    seed: int = 0,
    method: SamplingMethod | Literal["auto"] = "mixtures",
    metric: Metric = "cosine",
) -> Pivots:
    """Pivots for a collection, from its own descriptors or those of one like it.

    - ``mixtures``: each the mean of two random rows, normalised for the metric ``cosine``. Nothing is learned; it was
      measured to find more, with shorter posting lists, than rows themselves. Any `count`.
    - ``rows``: random rows, each at most once.
    - ``farthest``: a random row, then again and again the row farthest from all that were taken, of a random sample of
      8 rows a pivot (Gonzalez, 1985). It takes outliers first.
    - ``kmeans``: random rows, moved twice into the middle of the rows that are nearest to them, of a random sample of 8
      rows a pivot. It finds most, and takes as long as encoding 16 documents a pivot.
    - ``auto``: ``kmeans`` for up to 8,192 pivots if there are 2 rows a pivot, else ``mixtures``; presets take it.

    The pivots' `reach` is that of other rows, at most 1,000; of a tenth at most where ``kmeans`` learns from the rest.

    Equal arguments give equal pivots, for ``kmeans`` of more than 1,024 with one version of faiss or none.

    Args:
        features: numbers (N, D). Only the sampled rows of a memory-mapped array are read.
        count: P, how many pivots.
        seed: of the random numbers.
        method: as above.
        metric: by which descriptors will be compared with the pivots.

    Raises:
        InvalidInput: not an array (N, D), a sampled row that is not finite or all zero, fewer rows than the method
            needs, or an unknown method.
    """
    if method not in ("auto", *get_args(SamplingMethod)):
        raise InvalidInput(f"method is {method!r}; expected one of auto, {', '.join(get_args(SamplingMethod))}")
    rows = features if isinstance(features, np.ndarray) else np.asarray(features)  # a memory map stays one
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.size:
        raise InvalidInput(f"features have shape {rows.shape} of {rows.dtype}; expected numbers (N, D)")
    if count < 1:
        raise InvalidInput(f"count is {count}; expected at least 1")
    if method == "auto":
        centroids = count <= MAX_CENTROIDS and len(rows) >= MIN_ROWS_PER_CENTROID * count
        method = "kmeans" if centroids else "mixtures"
    needed = 2 if method == "mixtures" else count
    if len(rows) < needed:
        instead = "" if method == "mixtures" else ", or take method='mixtures', which makes any number"
        raise InvalidInput(
            f"{count} pivots by {method!r} need {needed} features or more; got {len(rows)}. Give more{instead}"
        )
    rng = np.random.default_rng(seed)
    pivots: NDArray[Any]
    others: NDArray[np.int64] | None = None  # rows that the pivots have not learnt from
    if method == "mixtures":
        pivots = _mixtures(rows, count, rng, metric)
    elif method == "rows":
        pivots = _read(rows, _some(rng, len(rows), count), metric)
    elif method == "farthest":
        pivots = _farthest(_read(rows, _some(rng, len(rows), FARTHEST_ROWS_PER_PIVOT * count), metric), count)
    else:
        drawn = _some(rng, len(rows), KMEANS_ROWS_PER_PIVOT * count + _reach_rows(count))
        learnt, others = np.split(drawn, [len(drawn) - min(_reach_rows(count), len(drawn) // 10, len(drawn) - count)])
        read = _read(rows, learnt, metric)
        pivots = move_to_centroids(Pivots(read[:count], metric=metric), read, iterations=KMEANS_ITERATIONS).features
    if others is None:  # a sample that leaves the choice of pivots as it is
        others = _some(np.random.default_rng([seed, 1]), len(rows), _reach_rows(count))
    chosen = Pivots(pivots, metric=metric)
    return Pivots(chosen.features, metric=metric, reach=_reach(rows, others, chosen))


def move_to_centroids(pivots: Pivots, rows: NDArray[np.float32], *, iterations: int) -> Pivots:
    """K-means from pivots that are there: Lloyd's iterations ("Least squares quantization in PCM", 1982).

    The pivot nearest to a row is found as a document's are, in a small part of the time of comparing with all of them.
    A pivot that is nearest to none stays where it was, and so does one whose rows have no direction together.

    Args:
        pivots: to begin with.
        rows: float32 (n, D), finite and not zero, of length 1 for the metric ``cosine``.
        iterations: how many.
    """
    P, n = len(pivots), len(rows)
    for _ in range(iterations):
        numbers, _ = NearestPivots(pivots, select_search("auto", pivots)).nearest(rows, 1)
        members = sparse.csr_array((np.ones(n, dtype=np.float32), (numbers[:, 0], np.arange(n))), shape=(P, n))
        counts = np.bincount(numbers[:, 0], minlength=P)[:, np.newaxis]
        means: NDArray[np.float32] = members @ rows / np.maximum(counts, 1).astype(np.float32)
        moved = means.any(axis=1, keepdims=True) if pivots.metric == "cosine" else counts > 0
        pivots = Pivots(np.where(moved, means, pivots.features), metric=pivots.metric)
    return pivots


def _reach_rows(count: int) -> int:
    """How many rows are compared with so many pivots for their reach."""
    return max(MIN_REACH_ROWS, min(MAX_REACH_ROWS, REACH_COMPARISONS // count))


def _reach(rows: NDArray[Any], which: NDArray[np.int64], pivots: Pivots) -> Reach | None:
    """How near to the pivots some rows lie; None if there are none."""
    sample = rows[np.sort(which)].astype(np.float32)
    return measure_reach(sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)], pivots)


def _some(rng: np.random.Generator, rows: int, count: int) -> NDArray[np.int64]:
    """Different rows in random order, all of them if there are no more than wanted."""
    return rng.choice(rows, size=min(count, rows), replace=False)


def _read(rows: NDArray[Any], which: NDArray[np.int64], metric: Metric) -> NDArray[np.float32]:
    """Some rows in float32, L2-normalised for the cosine. They are read in ascending order, as a disk likes it."""
    order = np.argsort(which)
    found = np.empty((len(which), rows.shape[1]), dtype=np.float32)
    found[order] = rows[which[order]]
    reject_unusable(found)
    if metric == "cosine":
        found /= np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    return found


def _mixtures(rows: NDArray[Any], count: int, rng: np.random.Generator, metric: Metric) -> NDArray[np.float16]:
    pairs = rng.integers(0, [[len(rows)], [len(rows) - 1]], size=(2, count))
    pairs[1] += pairs[1] >= pairs[0]  # two different rows
    # Piece by piece in float16, since a million pivots in float32 are gigabytes.
    pieces = [pairs[:, start : start + MIXTURES_AT_ONCE] for start in range(0, count, MIXTURES_AT_ONCE)]
    return np.concatenate([Pivots(_mixed(rows, piece, metric), metric=metric).features for piece in pieces])


def _mixed(rows: NDArray[Any], pairs: NDArray[np.int64], metric: Metric) -> NDArray[np.float32]:
    distinct, places = np.unique(pairs, return_inverse=True)
    read = _read(rows, distinct, metric)
    first, second = places.reshape(pairs.shape)
    mixed: NDArray[np.float32] = (read[first] + read[second]) / 2
    if metric == "cosine":
        opposite = ~mixed.any(axis=1)
        mixed[opposite] = read[first[opposite]]  # two opposite rows have no middle
    return mixed


def _farthest(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The first row, then always the one farthest from those taken; rows of length 1 are as far as their angle says."""
    squares = np.einsum("nd,nd->n", rows, rows)
    taken = np.zeros(count, dtype=np.int64)
    nearest = np.full(len(rows), np.inf, dtype=np.float32)  # squared distance to the nearest that is taken
    for number in range(1, count):
        last = taken[number - 1]
        np.minimum(nearest, squares + squares[last] - 2 * (rows @ rows[last]), out=nearest)
        nearest[last] = -np.inf
        taken[number] = np.argmax(nearest)
    return rows[taken]
