"""Metrics: what the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server, apart from those of any other in this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "deepterms_http_requests",
            "Requests answered, by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "deepterms_http_request_seconds",
            "Time until a request is answered, by route.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "deepterms_search_step_seconds",
            "Time of the steps of searches: decoding, descriptor, encoding, search with re-ranking.",
            ("step",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._documents = Counter(
            "deepterms_documents", "Documents added or refused.", ("outcome",), registry=self.registry
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge that asks when it is read."""
        Gauge(f"deepterms_{name}", what, registry=self.registry).set_function(value)

    def request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def step(self, name: str, milliseconds: float | None) -> None:
        """A step of a search took this long; None if it was not taken."""
        if milliseconds is not None:
            self._steps.labels(name).observe(milliseconds / 1e3)

    def documents(self, *, succeeded: int, failed: int) -> None:
        """Documents were sent."""
        self._documents.labels("succeeded").inc(succeeded)
        self._documents.labels("refused").inc(failed)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
