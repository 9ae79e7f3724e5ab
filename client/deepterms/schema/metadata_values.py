"""Metadata values: finds those that an index would not find again, because their field is not declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_KEYWORD_BYTES", "find_misfit"]

MAX_EXACT_INTEGER = 2**53  # up to which a double represents every integer
MAX_KEYWORD_BYTES = 32_766  # bytes; Lucene's limit of a term


def find_misfit(metadata: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Describe the first value that would be found as another one, or not at all; empty if there is none.

    Args:
        metadata: of one document.
        schema: the declared fields, whose values the engine checks itself.
    """
    return _search(metadata, schema, "")


def _search(value: Any, schema: Mapping[str, Any], path: str, *, declared: bool = False) -> str:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            field, below = _find_field(schema, name)
            own = declared or (field is not None and "properties" not in field)
            if reason := _search(inner, below, f"{path}.{name}" if path else name, declared=own):
                return reason
        return ""
    if isinstance(value, list | tuple):
        return next((reason for item in value if (reason := _search(item, schema, path, declared=declared))), "")
    if isinstance(value, int) and not isinstance(value, bool):
        return _judge_integer(value, path, declared=declared)
    if isinstance(value, str) and not declared and len(value) > MAX_KEYWORD_BYTES // 4:
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > MAX_KEYWORD_BYTES:
            return (
                f"the field {path!r} has a text of {size:,} bytes, but undeclared texts (keyword) hold "
                f"{MAX_KEYWORD_BYTES:,}. Declare the field, as schema={{{path!r}: 'text'}}, when you create or migrate "
                "the index"
            )
    return ""


def _judge_integer(value: int, path: str, *, declared: bool) -> str:
    if not -(2**63) <= value < 2**64:
        return f"the field {path!r} has the integer {value}, which has more than 64 bits; pass it as a string"
    if declared or abs(value) <= MAX_EXACT_INTEGER:
        return ""
    return (
        f"the field {path!r} has the integer {value}, which the type of undeclared numbers (double) would round: it is "
        f"exact up to 2^53. Declare the field, as schema={{{path!r}: 'long'}}, 'unsigned_long' or 'keyword', when you "
        "create or migrate the index"
    )


def _find_field(schema: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Find a declared field by its name, in which dots separate objects; and the fields below it."""
    field: Mapping[str, Any] | None = None
    for part in name.split("."):
        field = schema.get(part)
        schema = {} if field is None else field.get("properties", {})
        if field is None or "properties" not in field:
            break
    return field, schema
