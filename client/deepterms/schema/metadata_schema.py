"""Metadata schemas: the declared types of metadata fields, checked and brought into the form of the engines' mappings.

A schema maps a field to a type of the engine, such as ``"date"``, or to a field of a mapping, such as
``{"type": "scaled_float", "scaling_factor": 100}``. Fields that are not declared get their type from their first value
(`DATE_FORMAT` and the dynamic templates of ``index_templates/``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from deepterms.errors import InvalidInput

__all__ = [
    "DATE_FORMAT",
    "DECIMAL",
    "FieldOptions",
    "carry_over",
    "change_schema",
    "iterate_leaves",
    "merge_fields",
    "parse_analysis",
    "parse_schema",
]

# The strings that become dates if a field is not declared; the templates contain the same.
DATE_FORMAT = "uuuu-MM-dd||uuuu-MM-dd'T'HH:mm[:ss[.SSSSSSSSS][.SSSSSS][.SSS]][XXX]||strict_date_time"
# The type of numbers in fields that are not declared, whole or not.
DECIMAL: Mapping[str, Any] = {"type": "double", "coerce": False}

# By default, engines drop the decimals of 40.5 in these, and read the string "40" as a number.
_COERCED = frozenset(
    {"long", "integer", "short", "byte", "unsigned_long", "double", "float", "half_float", "scaled_float"}
)
_FORMER_NUMBERS: tuple[Mapping[str, Any], ...] = ({"type": "long"}, {"type": "float"})


class FieldOptions(TypedDict, total=False):
    """Keyword arguments of `SurrogateIndex.create` that belong to metadata fields; documented there."""

    schema: Mapping[str, Any]
    analysis: Mapping[str, Any]
    field_limit: int


def parse_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check a schema, and convert it into fields of a mapping.

    A type alone becomes a field of that type; numbers of such a field are not coerced, so that 40.5 does not become 40
    in a ``long``. The path ``place.city`` becomes a field of the object ``place``.

    Raises:
        InvalidInput: it is not a mapping of names to types or fields.
    """
    if schema is None:
        return {}
    if not isinstance(schema, Mapping):
        raise InvalidInput(
            f"schema is a mapping of metadata fields to types, such as {{'taken': 'date'}}; got {type(schema).__name__}"
        )
    fields: dict[str, Any] = {}
    for path, declared in schema.items():
        names = _split(path)
        field = _parse_field(path, declared)
        for name in reversed(names[1:]):
            field = {"properties": {name: field}}
        fields = merge_fields(fields, {names[0]: field})
    return fields


def _split(path: Any) -> list[str]:
    names = path.split(".") if isinstance(path, str) else []
    if not names or not all(name.strip() for name in names) or "*" in path:
        raise InvalidInput(f"schema has the field {path!r}; expected a name such as 'taken' or 'place.city'")
    if names[0] == "metadata" and len(names) > 1:
        raise InvalidInput(f"schema has the field {path!r}; name it without 'metadata.', as in the documents")
    return names


def _parse_field(path: str, declared: Any) -> dict[str, Any]:
    if isinstance(declared, str) and declared:
        return {"type": declared, "coerce": False} if declared in _COERCED else {"type": declared}
    if not isinstance(declared, Mapping) or not ("type" in declared or "properties" in declared):
        raise InvalidInput(
            f"schema declares {path!r} as {declared!r}; expected a type such as 'date', or a field of a mapping such "
            "as {'type': 'scaled_float', 'scaling_factor': 100}"
        )
    if "type" in declared and not isinstance(declared["type"], str):
        raise InvalidInput(f"schema declares {path!r} with the type {declared['type']!r}; expected a string")
    try:
        field: dict[str, Any] = json.loads(json.dumps(dict(declared), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"schema declares {path!r} with something that is not JSON: {error}") from None
    if "properties" in field:
        field["properties"] = parse_schema(field["properties"])
    return field


def parse_analysis(analysis: Mapping[str, Any] | None, *, template: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check analysis settings: the analyzers, and their parts, that ``text`` fields of a schema name.

    Args:
        analysis: as in an index's settings.
        template: the analysis settings of the layout, whose names are taken.

    Raises:
        InvalidInput: it is not such a mapping, or a name is taken.
    """
    if analysis is None:
        return {}
    if not isinstance(analysis, Mapping) or not all(isinstance(part, Mapping) for part in analysis.values()):
        raise InvalidInput(
            "analysis has the form of the engines' index settings, such as {'analyzer': {'folded': {…}}}; "
            f"got {analysis!r}"
        )
    for kind, parts in (template or {}).items():
        if taken := sorted(set(parts) & set(analysis.get(kind, {}))):
            raise InvalidInput(f"the {kind} {taken[0]!r} of analysis has a name that the layout uses; rename it")
    parsed: dict[str, Any] = json.loads(json.dumps(dict(analysis)))
    return parsed


def merge_fields(fields: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Merge fields of a mapping; of a field in both, the declared one counts, and objects are merged.

    Args:
        fields: name → field.
        declared: name → field.
    """
    merged = dict(fields)
    for name, field in declared.items():
        known = merged.get(name)
        if known is not None and "properties" in known and "properties" in field:
            field = {**known, **field, "properties": merge_fields(known["properties"], field["properties"])}
        merged[name] = field
    return merged


def change_schema(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change a schema: declare fields, and withdraw those whose type is None.

    Args:
        fields: a parsed schema.
        changes: a schema as users write it, in which None withdraws a field.

    Raises:
        InvalidInput: as `parse_schema`.
    """
    if not isinstance(changes, Mapping):
        parse_schema(changes)
    kept = merge_fields(fields, parse_schema({path: to for path, to in changes.items() if to is not None}))
    for path in (path for path, to in changes.items() if to is None):
        kept = _withdraw(kept, _split(path))
    return kept


def _withdraw(fields: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    field = fields.get(names[0])
    others = {name: other for name, other in fields.items() if name != names[0]}
    if field is None or len(names) == 1:
        return others
    inner = _withdraw(field.get("properties", {}), names[1:])
    return {**others, names[0]: {**field, "properties": inner}} if inner else others


def carry_over(fields: Mapping[str, Any], *, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a mapping that were not declared, for the mapping of a copy.

    Their types are kept, since the copy could learn others from documents in another order. Only the types that earlier
    releases gave to numbers, ``long`` and ``float``, become ``double``. It is coerced as those were, so that the copy
    accepts what the original did.

    Args:
        fields: name → field of the original.
        declared: its schema.
    """
    kept: dict[str, Any] = {}
    for name, field in fields.items():
        known = declared.get(name)
        if "properties" in field and (known is None or "properties" in known):
            inner = carry_over(field["properties"], declared={} if known is None else known["properties"])
            if inner or known is None:
                kept[name] = {**field, "properties": inner}
        elif known is None:
            kept[name] = {"type": "double"} if field in _FORMER_NUMBERS else field
    return kept


def iterate_leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (path, field) of all fields of a mapping that hold values: objects are traversed, ``nested`` ones too."""
    for name, field in fields.items():
        path = f"{prefix}{name}"
        if "properties" in field:
            yield from iterate_leaves(field["properties"], f"{path}.")
        elif field.get("type") != "object":
            yield path, field
