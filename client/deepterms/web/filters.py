"""Filters: a small filter language for metadata, translated into an engine query.

The engines' own query language is not exposed: it can run scripts and read other indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StringConstraints

__all__ = ["FieldFilter", "Filters", "ValueRange", "to_engine_filter"]

Value = Annotated[str, StringConstraints(max_length=512)] | StrictBool | StrictInt | StrictFloat
FieldName = Annotated[str, StringConstraints(pattern=r"^[^\s.*\x00-\x1f]+(\.[^\s.*\x00-\x1f]+)*$", max_length=200)]


class ValueRange(BaseModel):
    """A range of values; omitted bounds do not apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gte: StrictInt | StrictFloat | None = None
    lte: StrictInt | StrictFloat | None = None
    gt: StrictInt | StrictFloat | None = None
    lt: StrictInt | StrictFloat | None = None


FieldFilter = Annotated[list[Value], Field(min_length=1, max_length=100)] | ValueRange
# Metadata field → a list of values, any of which matches, or a range. A document must match every field.
Filters = Annotated[dict[FieldName, FieldFilter], Field(max_length=16)]


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
