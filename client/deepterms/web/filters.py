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


# A complete date, such as 2018-05-01 or 2018-05-01T12:00:00+02:00, or one relative to now, such as now-7d/d.
DateBound = Annotated[
    str,
    StringConstraints(
        max_length=40,
        pattern=r"^(\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?"
        r"|now([+-]\d{1,6}[yMwdhms])*(/[yMwdhms])?)$",
    ),
]
Bound = StrictInt | StrictFloat | DateBound | None

# The format of these dates, whatever that of the field.
_DATE_FORMAT = "strict_date_optional_time"


class ValueRange(BaseModel):
    """A range of numbers or dates; omitted bounds do not apply. A date without a time is the whole day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gte: Bound = None
    lte: Bound = None
    gt: Bound = None
    lt: Bound = None


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
        if any(isinstance(bound, str) for bound in bounds.values()):
            bounds["format"] = _DATE_FORMAT
        return {"range": {field: bounds}} if bounds else {"exists": {"field": field}}
    return {"terms": {field: wanted}}
