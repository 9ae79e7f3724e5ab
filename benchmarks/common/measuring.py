"""Turn queries and contenders into measurements: exact answers, recall, and times taken in alternation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.contenders import Contender, Features, Stored

BLOCK = 8_192  # rows per comparison
WARM_UP = 20  # untimed queries per setting


def find_exact(
    features: Stored, queries: Features, *, k: int, draws: NDArray[np.int64], below: Sequence[int | None]
) -> dict[int | None, NDArray[np.int64]]:
    """Find the k nearest rows by cosine, among all rows and among those whose draw is below each limit.

    Args:
        features: (N, D), rows L2-normalised.
        queries: float32 (Q, D), rows L2-normalised.
        k: number of rows to find.
        draws: int64 (N,), the number that filters compare.
        below: limits of the filters; None for no filter.

    Returns:
        Limit → row numbers, int64 (Q, k), with −1 where fewer than k rows are left.
    """
    best = {
        limit: (np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1))
        for limit in below
    }
    for start in range(0, len(features), BLOCK):
        block = np.asarray(features[start : start + BLOCK], dtype=np.float32)
        scores = queries @ block.T  # (Q, n)
        for limit, (values, rows) in best.items():
            masked = scores if limit is None else np.where(draws[start : start + BLOCK] < limit, scores, -np.inf)
            near = np.argpartition(-masked, min(k, masked.shape[1]) - 1, axis=1)[:, :k]
            merged_values = np.concatenate([values, np.take_along_axis(masked, near, axis=1)], axis=1)
            merged_rows = np.concatenate([rows, near + start], axis=1)
            order = np.argsort(-merged_values, axis=1, kind="stable")[:, :k]
            values[:] = np.take_along_axis(merged_values, order, axis=1)
            rows[:] = np.where(np.isinf(values), -1, np.take_along_axis(merged_rows, order, axis=1))
    return {limit: rows for limit, (_, rows) in best.items()}


def compute_recall(found: Sequence[int], true: NDArray[np.int64]) -> float:
    """Compute the share of the true rows that were found."""
    wanted = {int(row) for row in true if row >= 0}
    return len(wanted.intersection(found)) / len(wanted) if wanted else 1.0


def search_in_turn(
    contestants: Mapping[str, tuple[Contender, Mapping[str, float]]],
    queries: Features,
    true: NDArray[np.int64],
    *,
    k: int,
    below: int | None = None,
    on_query: Callable[[int], None] = lambda number: None,
) -> dict[str, dict[str, float]]:
    """Run every query on every contestant in alternating order, so that a load spike affects all of them.

    Args:
        contestants: label → contender and options.
        queries: float32 (Q, D).
        true: int64 (Q, k), the exact answers.
        k: number of hits.
        below: limit of the filter; None for no filter.
        on_query: called with the number of queries done.

    Returns:
        label → milliseconds and recall.
    """
    times: dict[str, list[float]] = {label: [] for label in contestants}
    recalls: dict[str, list[float]] = {label: [] for label in contestants}
    for contender, options in contestants.values():
        for number in range(min(WARM_UP, len(queries))):
            contender.search(queries[number], options, k=k, below=below)
    order = list(contestants)
    for number, query in enumerate(queries):
        for label in order if number % 2 else reversed(order):
            contender, options = contestants[label]
            started = time.perf_counter()
            hits = contender.search(query, options, k=k, below=below)
            times[label].append((time.perf_counter() - started) * 1e3)
            recalls[label].append(compute_recall([row for row, _ in hits], true[number]))
        on_query(number + 1)
    return {label: summarize_times(times[label]) | {"recall": float(np.mean(recalls[label]))} for label in contestants}


def summarize_times(times: Sequence[float]) -> dict[str, float]:
    """Compute p50, p95, p99 and the mean of milliseconds."""
    p50, p95, p99 = np.quantile(times, (0.5, 0.95, 0.99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "mean": float(np.mean(times))}


def search_concurrently(
    contender: Contender, options: Mapping[str, float], queries: Features, *, k: int, clients: int
) -> dict[str, float]:
    """Search from several threads at once; return queries per second and milliseconds per query."""

    def search(query: Features) -> float:
        started = time.perf_counter()
        contender.search(query, options, k=k)
        return (time.perf_counter() - started) * 1e3

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(search, queries[:WARM_UP]))
        started = time.perf_counter()
        times = list(pool.map(search, queries))
        spent = time.perf_counter() - started
    asked = len(queries) + len(queries[:WARM_UP])
    return summarize_times(times) | {"queries_per_second": len(queries) / spent, "queries": asked}


class CoreSeconds:
    """CPU time spent by a node and this process; on a busy machine it is more reliable than wall-clock time.

    Args:
        node: process id of the node.
    """

    def __init__(self, node: int) -> None:
        import psutil

        self._node = psutil.Process(node)
        self._before = self._now()

    def __call__(self) -> float:
        """Return the core seconds spent since this object was created."""
        return self._now() - self._before

    def _now(self) -> float:
        times = self._node.cpu_times()
        return float(times.user + times.system) + time.process_time()


def measure_seconds(work: Callable[[], Any]) -> float:
    """Measure the wall-clock seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
