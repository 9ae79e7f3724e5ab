"""Queries and contenders to numbers: exact answers, recall, and times that are taken in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.contenders import Contender, Features, Stored

BLOCK = 8_192  # rows compared at once
WARM_UP = 20  # queries of each setting, not counted


def exact(
    features: Stored, queries: Features, *, k: int, draws: NDArray[np.int64], below: Sequence[int | None]
) -> dict[int | None, NDArray[np.int64]]:
    """The k nearest rows by cosine, int64 (Q, k) each, of all rows and of those whose draw is below a number.

    Rows and queries are L2-normalised. −1 stands where fewer than k are left.
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


def recall(found: Sequence[int], true: NDArray[np.int64]) -> float:
    """The share of the true rows that were found."""
    wanted = {int(row) for row in true if row >= 0}
    return len(wanted.intersection(found)) / len(wanted) if wanted else 1.0


def in_turn(
    contestants: Mapping[str, tuple[Contender, Mapping[str, float]]],
    queries: Features,
    true: NDArray[np.int64],
    *,
    k: int,
    below: int | None = None,
    on_query: Callable[[int], None] = lambda number: None,
) -> dict[str, dict[str, float]]:
    """Ask every query of every contestant in turn, forwards and backwards, so that a busy moment falls on all.

    Args:
        contestants: label → contender and options.
        queries: float32 (Q, D).
        true: int64 (Q, k).
        k: hits.
        below: of filters.
        on_query: called with the number of queries done.

    Returns:
        label → milliseconds and recall.
    """
    times: dict[str, list[float]] = {label: [] for label in contestants}
    recalls: dict[str, list[float]] = {label: [] for label in contestants}
    for contender, options in contestants.values():
        for number in range(min(WARM_UP, len(queries))):
            contender.ask(queries[number], options, k=k, below=below)
    order = list(contestants)
    for number, query in enumerate(queries):
        for label in order if number % 2 else reversed(order):
            contender, options = contestants[label]
            started = time.perf_counter()
            hits = contender.ask(query, options, k=k, below=below)
            times[label].append((time.perf_counter() - started) * 1e3)
            recalls[label].append(recall([row for row, _ in hits], true[number]))
        on_query(number + 1)
    return {label: summary(times[label]) | {"recall": float(np.mean(recalls[label]))} for label in contestants}


def summary(times: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the mean of milliseconds."""
    p50, p95, p99 = np.quantile(times, (0.5, 0.95, 0.99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "mean": float(np.mean(times))}


def together(
    contender: Contender, options: Mapping[str, float], queries: Features, *, k: int, clients: int
) -> dict[str, float]:
    """Ask from several threads at once: queries a second, and milliseconds of each."""

    def ask(query: Features) -> float:
        started = time.perf_counter()
        contender.ask(query, options, k=k)
        return (time.perf_counter() - started) * 1e3

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, queries[:WARM_UP]))
        started = time.perf_counter()
        times = list(pool.map(ask, queries))
        spent = time.perf_counter() - started
    asked = len(queries) + len(queries[:WARM_UP])
    return summary(times) | {"queries_per_second": len(queries) / spent, "queries": asked}


class CoreSeconds:
    """Time that cores spent for a node and for this process: on a busy machine it says more than the clock does.

    Args:
        node: its process id.
    """

    def __init__(self, node: int) -> None:
        import psutil

        self._node = psutil.Process(node)
        self._before = self._now()

    def __call__(self) -> float:
        """Seconds of one core since this object was made."""
        return self._now() - self._before

    def _now(self) -> float:
        times = self._node.cpu_times()
        return float(times.user + times.system) + time.process_time()


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
