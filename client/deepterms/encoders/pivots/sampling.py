"""Sampling: from the descriptors of a collection to its pivots, which are some of them or are computed from them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepterms.encoders.arrays import Features, as_array
from deepterms.encoders.inputs import reject_unusable
from deepterms.encoders.pivots.nearest import NearestPivots, select_search
from deepterms.encoders.pivots.pivots import Metric, Pivots, Reach, measure_reach
from deepterms.errors import InvalidInput

__all__ = [
    "SamplingMethod",
    "check_rows",
    "count_rows_needed",
    "move_to_centroids",
    "sample_pivots",
]

SamplingMethod: TypeAlias = Literal["mixtures", "rows", "farthest", "kmeans"]
"""How pivots are chosen or computed; see `sample_pivots`."""

# Farthest-first traversal compares every pivot with every row, so it is given a sample of the rows.
FARTHEST_ROWS_PER_PIVOT = 8
# R@10 of 100,000 mixtures with 4,096 pivots, 16 words and 1,000 candidates was .979. Ten iterations of faiss with 24
# rows per pivot gave .980 and took thirty times as long.
KMEANS_ROWS_PER_PIVOT = 8
KMEANS_ITERATIONS = 2
# ``auto`` computes centroids for up to this many pivots, given enough rows per pivot. For 3,000 mixtures, R@10 with
# 1,024 centroids was .976 to .995, depending on the candidates, and .925 to .988 with mixtures as pivots. For 500,000
# mixtures, 16,384 centroids raised R@10 from .982 to .991 (16 words, 1,000 candidates), but sampling reads 671 MB of
# rows and filling the index took 1.14 times as long.
MAX_CENTROIDS = 8_192
MIN_ROWS_PER_CENTROID = 2
ROWS_PER_MIXTURE = 2
MIXTURES_AT_ONCE = 16_384
# Rows compared with all pivots to measure the reach. With a million pivots it is 200 rows, which take some seconds.
MAX_REACH_ROWS = 1_000
MIN_REACH_ROWS = 200
REACH_COMPARISONS = 10**8


def count_rows_needed(count: int) -> int:
    """Count the rows that ``auto`` reads for `count` pivots and their reach, if the collection is large enough."""
    return (KMEANS_ROWS_PER_PIVOT if count <= MAX_CENTROIDS else ROWS_PER_MIXTURE) * count + _count_reach_rows(count)


def sample_pivots(
    features: NDArray[Any],
    count: int,
    *,
    seed: int = 0,
    method: SamplingMethod | Literal["auto"] = "mixtures",
    metric: Metric = "cosine",
) -> Pivots:
    """Sample pivots for a collection, from its own descriptors or those of a similar collection.

    - ``mixtures``: each pivot is the mean of two random rows, normalised for the metric ``cosine``. It needs no
      training and, as measured, gives higher recall and shorter posting lists than ``rows``. Any `count`.
    - ``rows``: random rows, each at most once.
    - ``farthest``: a random row, then repeatedly the row farthest from all pivots so far, out of a random sample of 8
      rows per pivot (Gonzalez, 1985). It picks outliers first.
    - ``kmeans``: random rows, moved twice to the centroid of the rows nearest to them, out of a random sample of 8 rows
      per pivot. It gives the highest recall and takes as long as encoding 16 documents per pivot.
    - ``auto``: ``kmeans`` for up to 8,192 pivots if there are 2 rows per pivot, else ``mixtures``; also the choice of
      `encoder="auto"`.

    The pivots' `reach` is measured on other rows, at most 1,000; with ``kmeans``, on at most a tenth of the sample,
    which is held out from training.

    Equal arguments give equal pivots. For ``kmeans`` with more than 1,024 pivots, this requires the same version of
    faiss, or none.

    Args:
        features: numbers (N, D). Only the sampled rows of a memory-mapped array are read.
        count: P, the number of pivots.
        seed: seed of the random numbers.
        method: as above.
        metric: the measure by which descriptors will be compared with the pivots.

    Raises:
        InvalidInput: the features are not an array (N, D); a sampled row is not finite or all zero; there are fewer
            rows than the method needs; or the method is unknown.
    """
    if method not in ("auto", *get_args(SamplingMethod)):
        raise InvalidInput(f"method is {method!r}; expected one of auto, {', '.join(get_args(SamplingMethod))}")
    rows = check_rows(features)
    if count < 1:
        raise InvalidInput(f"count is {count}; expected at least 1")
    if method == "auto":
        centroids = count <= MAX_CENTROIDS and len(rows) >= MIN_ROWS_PER_CENTROID * count
        method = "kmeans" if centroids else "mixtures"
    needed = 2 if method == "mixtures" else count
    if len(rows) < needed:
        instead = "" if method == "mixtures" else ", or use method='mixtures', which has no such limit"
        raise InvalidInput(
            f"{count} pivots by method {method!r} need at least {needed} features; got {len(rows)}. Pass more{instead}"
        )
    rng = np.random.default_rng(seed)
    pivots: NDArray[Any]
    others: NDArray[np.int64] | None = None  # rows held out from training, for the reach
    if method == "mixtures":
        pivots = _mix_rows(rows, count, rng, metric)
    elif method == "rows":
        pivots = _read_rows(rows, _draw_rows(rng, len(rows), count), metric)
    elif method == "farthest":
        drawn = _draw_rows(rng, len(rows), FARTHEST_ROWS_PER_PIVOT * count)
        pivots = _pick_farthest(_read_rows(rows, drawn, metric), count)
    else:
        drawn = _draw_rows(rng, len(rows), KMEANS_ROWS_PER_PIVOT * count + _count_reach_rows(count))
        held_out = min(_count_reach_rows(count), len(drawn) // 10, len(drawn) - count)
        training, others = np.split(drawn, [len(drawn) - held_out])
        read = _read_rows(rows, training, metric)
        pivots = move_to_centroids(Pivots(read[:count], metric=metric), read, iterations=KMEANS_ITERATIONS).features
    if others is None:  # its own generator, so that the reach does not change which pivots are chosen
        others = _draw_rows(np.random.default_rng([seed, 1]), len(rows), _count_reach_rows(count))
    sampled = Pivots(pivots, metric=metric)
    return Pivots(sampled.features, metric=metric, reach=_measure_row_reach(rows, others, sampled))


def check_rows(features: Features) -> NDArray[Any]:
    """View features as an array of numbers (N, D), of which nothing has been read yet if it is memory-mapped.

    Raises:
        InvalidInput: they are something else.
    """
    rows = as_array(features)  # a view of a memory map
    if rows.ndim != 2 or not rows.size:
        raise InvalidInput(f"features have shape {rows.shape} and dtype {rows.dtype}; expected numbers (N, D)")
    return rows


def move_to_centroids(pivots: Pivots, rows: NDArray[np.float32], *, iterations: int) -> Pivots:
    """Move pivots to centroids by Lloyd's k-means iterations ("Least squares quantization in PCM", 1982).

    Rows are assigned to their nearest pivot as documents are, in a fraction of the time of comparing all pairs. A pivot
    stays where it is if no row is nearest to it, or, for ``cosine``, if its rows sum to zero.

    Args:
        pivots: the initial pivots.
        rows: float32 (n, D), finite and not zero, of length 1 for the metric ``cosine``.
        iterations: the number of iterations.
    """
    P, n = len(pivots), len(rows)
    for _ in range(iterations):
        numbers, _ = NearestPivots(pivots, select_search("auto", pivots)).find(rows, 1)
        members = sparse.csr_array((np.ones(n, dtype=np.float32), (numbers[:, 0], np.arange(n))), shape=(P, n))
        counts = np.bincount(numbers[:, 0], minlength=P)[:, np.newaxis]
        means: NDArray[np.float32] = members @ rows / np.maximum(counts, 1).astype(np.float32)
        moved = means.any(axis=1, keepdims=True) if pivots.metric == "cosine" else counts > 0
        pivots = Pivots(np.where(moved, means, pivots.features), metric=pivots.metric)
    return pivots


def _count_reach_rows(count: int) -> int:
    """Count the rows on which the reach of `count` pivots is measured."""
    return max(MIN_REACH_ROWS, min(MAX_REACH_ROWS, REACH_COMPARISONS // count))


def _measure_row_reach(rows: NDArray[Any], which: NDArray[np.int64], pivots: Pivots) -> Reach | None:
    """Measure the reach on some rows, ignoring unusable ones; None if there are none."""
    sample = rows[np.sort(which)].astype(np.float32)
    return measure_reach(sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)], pivots)


def _draw_rows(rng: np.random.Generator, rows: int, count: int) -> NDArray[np.int64]:
    """Draw different row numbers in random order: `count`, or all if there are fewer."""
    return rng.choice(rows, size=min(count, rows), replace=False)


def _read_rows(rows: NDArray[Any], which: NDArray[np.int64], metric: Metric) -> NDArray[np.float32]:
    """Read rows as float32, L2-normalised for ``cosine``, in ascending order, which is fastest on a disk."""
    order = np.argsort(which)
    found = np.empty((len(which), rows.shape[1]), dtype=np.float32)
    found[order] = rows[which[order]]
    reject_unusable(found)
    if metric == "cosine":
        found /= np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    return found


def _mix_rows(rows: NDArray[Any], count: int, rng: np.random.Generator, metric: Metric) -> NDArray[np.float16]:
    pairs = rng.integers(0, [[len(rows)], [len(rows) - 1]], size=(2, count))
    pairs[1] += pairs[1] >= pairs[0]  # two different rows
    # In pieces converted to float16, since a million pivots in float32 take gigabytes.
    pieces = [pairs[:, start : start + MIXTURES_AT_ONCE] for start in range(0, count, MIXTURES_AT_ONCE)]
    return np.concatenate([Pivots(_average_pairs(rows, piece, metric), metric=metric).features for piece in pieces])


def _average_pairs(rows: NDArray[Any], pairs: NDArray[np.int64], metric: Metric) -> NDArray[np.float32]:
    distinct, places = np.unique(pairs, return_inverse=True)
    read = _read_rows(rows, distinct, metric)
    first, second = places.reshape(pairs.shape)
    mixed: NDArray[np.float32] = (read[first] + read[second]) / 2
    if metric == "cosine":
        opposite = ~mixed.any(axis=1)
        mixed[opposite] = read[first[opposite]]  # the mean of opposite rows has no direction
    return mixed


def _pick_farthest(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Pick the first row, then repeatedly the row farthest from all picked; unit rows compare by angle."""
    squares = np.einsum("nd,nd->n", rows, rows)
    picked = np.zeros(count, dtype=np.int64)
    nearest = np.full(len(rows), np.inf, dtype=np.float32)  # squared distance to the nearest picked row
    for number in range(1, count):
        last = picked[number - 1]
        np.minimum(nearest, squares + squares[last] - 2 * (rows @ rows[last]), out=nearest)
        nearest[last] = -np.inf
        picked[number] = np.argmax(nearest)
    return rows[picked]
