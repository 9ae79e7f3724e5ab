"""Filters: queries of the engines' query language compiled to predicates on a document's id and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.memory.field_mapping import FieldMapping
from deepterms.memory.field_types import BOUNDS, Test
from deepterms.schema.date_ranges import DATE_OPTIONS

__all__ = ["Predicate", "compile_filter"]

Predicate = Callable[[str, Mapping[str, Any]], bool]

_ID_FIELDS = ("_id", "id")


def compile_filter(query: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    """Compile a filter into a predicate on (id, metadata).

    Supported are match_all, ids, term, terms, range, exists, prefix, and bool of these. Fields are named as in the
    cluster: ``metadata.year``. An array field matches if any of its values does. Values are compared as the type of the
    field requires; a field that no document has matches nothing.

    Args:
        query: the filter.
        fields: the fields of the index.

    Raises:
        InvalidInput: the filter is malformed, does not fit the type of a field, or only a cluster can evaluate it.
    """
    if not isinstance(query, Mapping) or len(query) != 1:
        got = sorted(map(str, query)) if isinstance(query, Mapping) else type(query).__name__
        raise InvalidInput(f"a filter is a mapping with one query; got {got}")
    ((kind, body),) = query.items()
    build = _BUILDERS.get(kind)
    if build is None:
        raise InvalidInput(
            f"MemoryIndex cannot evaluate the filter {kind!r}; it supports {', '.join(sorted(_BUILDERS))}. "
            "Use SurrogateIndex for other filters."
        )
    if not isinstance(body, Mapping):
        raise InvalidInput(f"the body of the filter {kind!r} is a mapping; got {type(body).__name__}")
    return build(body, fields)


def _require_one_field(kind: str, body: Mapping[str, Any]) -> tuple[str, Any]:
    if len(body) != 1:
        raise InvalidInput(f"the filter {kind!r} names one field; got {sorted(map(str, body))}")
    ((field, value),) = body.items()
    if not isinstance(field, str):
        raise InvalidInput(f"the field name of the filter {kind!r} is a string; got {field!r}")
    return field, value


def _check_options(kind: str, options: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(options) - known):
        raise InvalidInput(
            f"MemoryIndex does not support {unknown} in the filter {kind!r}; it supports {sorted(known)}"
        )


def _find_path(field: str, fields: FieldMapping) -> str | None:
    """Return the path of a metadata field; None for any other, which no document has."""
    path = field.removeprefix("metadata.")
    if path == field or field in _ID_FIELDS:
        return None
    if (opaque := fields.find_opaque(path)) is not None:
        raise InvalidInput(
            f"MemoryIndex cannot look into metadata.{opaque}, which has the type {fields.types[opaque].name}. Use "
            "SurrogateIndex for filters on its fields"
        )
    return path


def _match_any_value(field: str, fields: FieldMapping, build: Callable[[Any], Test]) -> Predicate:
    """Build a predicate: whether any value of a field passes a test that suits the type of the field."""
    path = _find_path(field, fields)
    kind = None if path is None else fields.find(path)
    if path is None or kind is None:
        return _match_nothing
    test = build(kind)
    return lambda identifier, metadata: any(test(stored) for stored in fields.read(metadata, path))


def _match_nothing(identifier: str, metadata: Mapping[str, Any]) -> bool:
    return False


def _compile_match_all(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    _check_options("match_all", body, set())
    return lambda identifier, metadata: True


def _compile_ids(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    _check_options("ids", body, {"values"})
    values = body.get("values", ())
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InvalidInput("the filter 'ids' takes {'values': [id, …]}")
    wanted = frozenset(values)
    return lambda identifier, metadata: identifier in wanted


def _compile_term(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    field, value = _require_one_field("term", body)
    if isinstance(value, Mapping):
        _check_options("term", value, {"value"})
        value = value.get("value")
    return _build_any_term("term", field, [value], fields)


def _compile_terms(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    field, wanted = _require_one_field("terms", body)
    if not isinstance(wanted, list | tuple):
        raise InvalidInput(f"the filter 'terms' on {field!r} takes an array of values; got {type(wanted).__name__}")
    return _build_any_term("terms", field, list(wanted), fields)


def _build_any_term(kind: str, field: str, wanted: list[Any], fields: FieldMapping) -> Predicate:
    for value in wanted:
        if not isinstance(value, str | int | float):
            raise InvalidInput(
                f"the filter {kind!r} on {field!r} compares strings, numbers and booleans; got {value!r}"
            )
    if field in _ID_FIELDS:
        texts = frozenset(map(str, wanted))
        return lambda identifier, metadata: identifier in texts

    def build(of: Any) -> Test:
        tests = [of.build_term(value) for value in wanted]
        return lambda stored: any(test(stored) for test in tests)

    return _match_any_value(field, fields, build)


def _compile_prefix(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    field, value = _require_one_field("prefix", body)
    if isinstance(value, Mapping):
        _check_options("prefix", value, {"value"})
        value = value.get("value")
    if not isinstance(value, str | int | float):
        raise InvalidInput(f"the filter 'prefix' on {field!r} takes a string; got {value!r}")
    if field in _ID_FIELDS:
        return lambda identifier, metadata: identifier.startswith(str(value))
    return _match_any_value(field, fields, lambda of: of.build_prefix(str(value)))


def _compile_range(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    field, given = _require_one_field("range", body)
    if not isinstance(given, Mapping):
        raise InvalidInput(f"the filter 'range' on {field!r} takes a mapping of bounds; got {type(given).__name__}")
    _check_options("range", given, {*BOUNDS, *DATE_OPTIONS})
    bounds = {name: bound for name, bound in given.items() if name in BOUNDS and bound is not None}
    options = {name: option for name, option in given.items() if name in DATE_OPTIONS and option is not None}
    return _match_any_value(field, fields, lambda of: of.build_range(bounds, options))


def _compile_exists(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    _check_options("exists", body, {"field"})
    field = body.get("field")
    if not isinstance(field, str):
        raise InvalidInput("the filter 'exists' takes {'field': name}")
    if field in _ID_FIELDS:
        return lambda identifier, metadata: True
    path = "" if field == "metadata" else _find_path(field, fields)
    if path is None:
        return _match_nothing
    below = fields.find_below(path)
    return lambda identifier, metadata: any(fields.read(metadata, known) for known in below)


def _compile_bool(body: Mapping[str, Any], fields: FieldMapping) -> Predicate:
    _check_options("bool", body, {"must", "filter", "should", "must_not", "minimum_should_match"})

    def clauses(name: str) -> list[Predicate]:
        given = body.get(name, [])
        if not isinstance(given, list | tuple | Mapping):
            raise InvalidInput(f"{name!r} of the filter 'bool' takes one filter or a list; got {type(given).__name__}")
        return [compile_filter(clause, fields) for clause in ([given] if isinstance(given, Mapping) else given)]

    every, some, none = clauses("must") + clauses("filter"), clauses("should"), clauses("must_not")
    # As in the engines: without must or filter, at least one clause of should has to match.
    least = body.get("minimum_should_match", 1 if some and not every else 0)
    if not isinstance(least, int) or least < 0:
        raise InvalidInput(f"MemoryIndex takes an integer of 0 or more as 'minimum_should_match'; got {least!r}")
    return lambda identifier, metadata: (
        all(test(identifier, metadata) for test in every)
        and not any(test(identifier, metadata) for test in none)
        and sum(test(identifier, metadata) for test in some) >= least
    )


_BUILDERS: dict[str, Callable[[Mapping[str, Any], FieldMapping], Predicate]] = {
    "match_all": _compile_match_all,
    "ids": _compile_ids,
    "term": _compile_term,
    "terms": _compile_terms,
    "prefix": _compile_prefix,
    "range": _compile_range,
    "exists": _compile_exists,
    "bool": _compile_bool,
}
