"""Choices: what may be asked of metadata, as a small language of its own, into a filter of the engines.

The engines' own language stays closed: its queries can run scripts and read other indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StringConstraints

__all__ = ["Between", "Choice", "Choices", "filter_of"]

Value = Annotated[str, StringConstraints(max_length=512)] | StrictBool | StrictInt | StrictFloat
FieldName = Annotated[str, StringConstraints(pattern=r"^[^\s.*\x00-\x1f]+(\.[^\s.*\x00-\x1f]+)*$", max_length=200)]


class Between(BaseModel):
    """A range; bounds that are left out do not count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gte: StrictInt | StrictFloat | None = None
    lte: StrictInt | StrictFloat | None = None
    gt: StrictInt | StrictFloat | None = None
    lt: StrictInt | StrictFloat | None = None


Choice = Annotated[list[Value], Field(min_length=1, max_length=100)] | Between
# Field of the metadata → any of these values, or within this range. All fields must fit.
Choices = Annotated[dict[FieldName, Choice], Field(max_length=16)]


def filter_of(choices: Mapping[str, list[Any] | Between] | None) -> dict[str, Any] | None:
    """The filter that these choices are; None for none."""
    if not choices:
        return None
    return {"bool": {"filter": [_clause(f"metadata.{field}", choice) for field, choice in choices.items()]}}


def _clause(field: str, choice: list[Any] | Between) -> dict[str, Any]:
    if isinstance(choice, Between):
        bounds = choice.model_dump(exclude_none=True)
        return {"range": {field: bounds}} if bounds else {"exists": {"field": field}}
    return {"terms": {field: choice}}
