"""Telemetry: OpenTelemetry spans around searches and adds, where its API is installed; nothing where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["Span", "span"]


class Span:
    """What a span is given; nothing is kept without OpenTelemetry."""

    def __init__(self, current: Any = None) -> None:
        self._current = current

    def note(self, **attributes: str | int | None) -> None:
        """Add attributes, named ``deepterms.…``; None is left out. Never vectors, never credentials."""
        if self._current is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._current.set_attribute(f"deepterms.{name}", value)


@contextmanager
def span(name: str, **attributes: str | int | None) -> Iterator[Span]:
    """A span of this name around a block.

    Args:
        name: such as ``deepterms.search``.
        attributes: known from the start.
    """
    tracer = _tracer()
    if tracer is None:
        yield Span()
        return
    with tracer.start_as_current_span(name) as current:
        noted = Span(current)
        noted.note(**attributes)
        yield noted


@lru_cache(maxsize=1)
def _tracer() -> Any:
    try:
        trace = import_module("opentelemetry.trace")
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("deepterms")
