"""Filters: queries of the engines' query language compiled to predicates on a document's id and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deepterms.errors import InvalidInput

__all__ = ["Predicate", "compile_filter"]

Predicate = Callable[[str, Mapping[str, Any]], bool]

_RANGE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def compile_filter(query: Mapping[str, Any]) -> Predicate:
    """Compile a filter into a predicate on (id, metadata).

    Supported are match_all, ids, term, terms, range, exists, prefix, and bool of these. Fields are named as in the
    cluster: ``metadata.year``. An array field matches if any of its values does.

    Raises:
        InvalidInput: the filter is malformed, or only a cluster can evaluate it.
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
    return build(body)


def _read_values(field: str, identifier: str, metadata: Mapping[str, Any]) -> Iterator[Any]:
    """Yield all values of a field; objects are traversed and arrays flattened, as in the engines."""
    if field in ("_id", "id"):
        yield identifier
        return
    levels: list[Any] = [{"metadata": metadata}]
    for name in field.split("."):
        levels = [value[name] for value in _flatten(levels) if isinstance(value, Mapping) and name in value]
    yield from (value for value in _flatten(levels) if value is not None)


def _flatten(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flatten(list(value))
        else:
            yield value


def _is_equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return _to_text(value) == _to_text(wanted)
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return value == wanted
    return _to_text(value) == _to_text(wanted)


def _to_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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


def _match_any_value(field: str, test: Callable[[Any], bool]) -> Predicate:
    return lambda identifier, metadata: any(test(value) for value in _read_values(field, identifier, metadata))


def _compile_match_all(body: Mapping[str, Any]) -> Predicate:
    _check_options("match_all", body, set())
    return lambda identifier, metadata: True


def _compile_ids(body: Mapping[str, Any]) -> Predicate:
    _check_options("ids", body, {"values"})
    values = body.get("values", ())
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InvalidInput("the filter 'ids' takes {'values': [id, …]}")
    wanted = frozenset(values)
    return lambda identifier, metadata: identifier in wanted


def _compile_term(body: Mapping[str, Any]) -> Predicate:
    field, value = _require_one_field("term", body)
    if isinstance(value, Mapping):
        _check_options("term", value, {"value"})
        value = value.get("value")
    return _match_any_value(field, lambda found: _is_equal(found, value))


def _compile_terms(body: Mapping[str, Any]) -> Predicate:
    field, wanted = _require_one_field("terms", body)
    if not isinstance(wanted, list | tuple):
        raise InvalidInput(f"the filter 'terms' on {field!r} takes an array of values; got {type(wanted).__name__}")
    return _match_any_value(field, lambda found: any(_is_equal(found, value) for value in wanted))


def _compile_prefix(body: Mapping[str, Any]) -> Predicate:
    field, value = _require_one_field("prefix", body)
    if isinstance(value, Mapping):
        _check_options("prefix", value, {"value"})
        value = value.get("value")
    return _match_any_value(field, lambda found: isinstance(found, str) and found.startswith(str(value)))


def _compile_range(body: Mapping[str, Any]) -> Predicate:
    field, bounds = _require_one_field("range", body)
    if not isinstance(bounds, Mapping):
        raise InvalidInput(f"the filter 'range' on {field!r} takes a mapping of bounds; got {type(bounds).__name__}")
    _check_options("range", bounds, set(_RANGE))

    def inside(found: Any) -> bool:
        try:
            return all(_RANGE[name](found, bound) for name, bound in bounds.items())
        except TypeError:  # text compared with a number does not match
            return False

    return _match_any_value(field, inside)


def _compile_exists(body: Mapping[str, Any]) -> Predicate:
    _check_options("exists", body, {"field"})
    field = body.get("field")
    if not isinstance(field, str):
        raise InvalidInput("the filter 'exists' takes {'field': name}")
    return _match_any_value(field, lambda found: True)


def _compile_bool(body: Mapping[str, Any]) -> Predicate:
    _check_options("bool", body, {"must", "filter", "should", "must_not", "minimum_should_match"})

    def clauses(name: str) -> list[Predicate]:
        given = body.get(name, [])
        if not isinstance(given, list | tuple | Mapping):
            raise InvalidInput(f"{name!r} of the filter 'bool' takes one filter or a list; got {type(given).__name__}")
        return [compile_filter(clause) for clause in ([given] if isinstance(given, Mapping) else given)]

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


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], Predicate]] = {
    "match_all": _compile_match_all,
    "ids": _compile_ids,
    "term": _compile_term,
    "terms": _compile_terms,
    "prefix": _compile_prefix,
    "range": _compile_range,
    "exists": _compile_exists,
    "bool": _compile_bool,
}
