"""Date ranges: the parts of a filter that treat a metadata field as a date."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["explain_keyword_dates", "find_date_ranges", "is_date_math"]

BOUNDS = ("gt", "gte", "lt", "lte", "from", "to")
DATE_OPTIONS = ("format", "time_zone")


def is_date_math(bound: Any) -> bool:
    """Whether a bound is date math, such as ``now-1d`` or ``2024-01-31||/M``."""
    return isinstance(bound, str) and (re.fullmatch(r"now([+\-/].*)?", bound) is not None or "||" in bound)


def find_date_ranges(filter: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each field that a filter compares as a date, with what shows it: date math, ``format`` or ``time_zone``.

    Args:
        filter: any query of the engines' query language.
    """
    if isinstance(filter, Mapping):
        for kind, body in filter.items():
            if kind == "range" and isinstance(body, Mapping):
                for field, bounds in body.items():
                    if isinstance(bounds, Mapping) and (asked := _find_signs(bounds)):
                        yield str(field), asked
            else:
                yield from find_date_ranges(body)
    elif isinstance(filter, list | tuple):
        for part in filter:
            yield from find_date_ranges(part)


def _find_signs(bounds: Mapping[str, Any]) -> tuple[str, ...]:
    dated = [str(bounds[name]) for name in BOUNDS if is_date_math(bounds.get(name))]
    return (*dated, *(name for name in DATE_OPTIONS if name in bounds))


def explain_keyword_dates(path: str, asked: tuple[str, ...]) -> str:
    """Explain that a range treats a keyword field as a date.

    Args:
        path: the field, without ``metadata.``.
        asked: from `find_date_ranges`.
    """
    return (
        f"the filter 'range' on metadata.{path} has {', '.join(map(repr, asked))}, but the field has the type keyword, "
        f"whose values are compared letter by letter. Declare the field, as schema={{{path!r}: 'date'}}, when you "
        "create or migrate the index"
    )
