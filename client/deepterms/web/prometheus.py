"""Metrics: what the server counts and times, in Prometheus format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # seconds


class Metrics:
    """The metrics of one server, in a registry of its own so that two servers in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "deepterms_http_requests",
            "HTTP requests by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "deepterms_http_request_seconds",
            "Time to respond to an HTTP request, by route.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._steps = Histogram(
            "deepterms_search_step_seconds",
            "Time of each step of a search: decoding, descriptor, search (encoding and re-ranking included).",
            ("step",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._documents = Counter(
            "deepterms_documents", "Documents added or rejected.", ("outcome",), registry=self.registry
        )

    def add_gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read at each scrape."""
        Gauge(f"deepterms_{name}", description, registry=self.registry).set_function(read)

    def count_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request and observe its time."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_step(self, name: str, milliseconds: float | None) -> None:
        """Observe the time of one step of a search; None if the step was skipped."""
        if milliseconds is not None:
            self._steps.labels(name).observe(milliseconds / 1e3)

    def count_documents(self, *, succeeded: int, failed: int) -> None:
        """Count the documents of one request."""
        self._documents.labels("succeeded").inc(succeeded)
        self._documents.labels("refused").inc(failed)

    def render(self) -> bytes:
        """All metrics in Prometheus text format."""
        return generate_latest(self.registry)
