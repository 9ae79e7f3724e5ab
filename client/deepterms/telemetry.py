"""OpenTelemetry spans around searches and writes; without its API installed, nothing is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["Span", "span"]


class Span:
    """The span in progress; without OpenTelemetry it discards its attributes."""

    def __init__(self, current: Any = None) -> None:
        self._current = current

    def note(self, **attributes: str | int | None) -> None:
        """Add attributes, prefixed with ``deepterms.``; None is skipped. Never pass vectors or credentials."""
        if self._current is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._current.set_attribute(f"deepterms.{name}", value)


@contextmanager
def span(name: str, **attributes: str | int | None) -> Iterator[Span]:
    """Record a span around the block.

    Args:
        name: such as ``deepterms.search``.
        attributes: those known at the start.
    """
    tracer = _get_tracer()
    if tracer is None:
        yield Span()
        return
    with tracer.start_as_current_span(name) as current:
        noted = Span(current)
        noted.note(**attributes)
        yield noted


@lru_cache(maxsize=1)
def _get_tracer() -> Any:
    try:
        trace = import_module("opentelemetry.trace")
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("deepterms")
