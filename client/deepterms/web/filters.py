"""Filters: a small filter language for metadata, translated into an engine query.

The engines' own query language is not exposed: it can run scripts and read other indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
)

__all__ = ["FieldFilter", "Filters", "ValueRange", "at_most", "to_engine_filter"]


def at_most(count: int) -> Callable[[Any], Any]:
    """Make a validator that measures a container before its elements are validated, each of which may be an error."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            raise ValueError(f"got {len(value):,} elements; expected at most {count:,}")
        return value

    return check


Value = Annotated[str, StringConstraints(max_length=512)] | StrictBool | StrictInt | StrictFloat
FieldName = Annotated[str, StringConstraints(pattern=r"^[^\s.*\x00-\x1f]+(\.[^\s.*\x00-\x1f]+)*$", max_length=200)]


class ValueRange(BaseModel):
    """A range of values; omitted bounds do not apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gte: StrictInt | StrictFloat | None = None
    lte: StrictInt | StrictFloat | None = None
    gt: StrictInt | StrictFloat | None = None
    lt: StrictInt | StrictFloat | None = None


FieldFilter = Annotated[
    Annotated[list[Value], Field(min_length=1, max_length=100)] | ValueRange, BeforeValidator(at_most(100))
]
# Metadata field → a list of values, any of which matches, or a range. A document must match every field.
Filters = Annotated[dict[FieldName, FieldFilter], Field(max_length=16), BeforeValidator(at_most(16))]


def to_engine_filter(filters: Mapping[str, list[Any] | ValueRange] | None) -> dict[str, Any] | None:
    """Translate filters into an engine query; None if there are no filters."""
    if not filters:
        return None
    return {"bool": {"filter": [_to_clause(f"metadata.{field}", wanted) for field, wanted in filters.items()]}}


def _to_clause(field: str, wanted: list[Any] | ValueRange) -> dict[str, Any]:
    if isinstance(wanted, ValueRange):
        bounds = wanted.model_dump(exclude_none=True)
        return {"range": {field: bounds}} if bounds else {"exists": {"field": field}}
    return {"terms": {field: wanted}}
