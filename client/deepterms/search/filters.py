"""Filters: the filter of a caller to plain JSON, the same for both engines and for `MemoryIndex`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.schema.aligned import read_id
from deepterms.schema.json_values import to_json_value

__all__ = ["Filter", "normalise_filter"]

Filter = Mapping[str, Any] | list[Mapping[str, Any]] | tuple[Mapping[str, Any], ...]

_OF_ONE_VALUE = ("term", "prefix")
_CLAUSES = ("must", "filter", "should", "must_not")


def normalise_filter(filter: Filter) -> dict[str, Any]:
    """Return a filter as plain JSON.

    Values are converted as in metadata (`deepterms.schema.json_values`): numbers of numpy and Decimals to numbers,
    dates and times to ISO 8601, tuples and arrays to lists, enumerations to their values. A set becomes a sorted list,
    so that equal filters are equal requests. Several filters in a list must all match. Bounds of a ``range`` and
    clauses of a ``bool`` that are None are left out.

    Args:
        filter: a query of the engines' query language, or a list of them.

    Raises:
        InvalidInput: the filter is no such query; or it holds a value that JSON cannot represent, a lone surrogate, an
            integer of more than 64 bits, or None as the value to find. The message names the place.
    """
    if isinstance(filter, list | tuple):
        if not filter:
            raise InvalidInput("filter is an empty list; leave it out to match every document")
        return {"bool": {"filter": [_normalise(query, f"filter[{place}]") for place, query in enumerate(filter)]}}
    return _normalise(filter, "filter")


def _normalise(query: object, path: str) -> dict[str, Any]:
    if not isinstance(query, Mapping):
        raise InvalidInput(
            f"a filter is a mapping with one query, or a list of them; {path} is a {type(query).__name__}"
        )
    if len(query) != 1:
        raise InvalidInput(
            f"a filter is a mapping with one query; {path} has {sorted(map(str, query))}: pass a list of filters"
        )
    plain: dict[str, Any] = to_json_value(query, path)
    return _read_query(plain, path)


def _read_query(query: dict[str, Any], path: str) -> dict[str, Any]:
    """Give the same meaning everywhere to what engines and `MemoryIndex` would read differently."""
    ((kind, body),) = query.items()
    path = f"{path}.{kind}"
    if not isinstance(body, dict):
        return query
    if kind == "bool":
        return {kind: {name: _read_clauses(name, clause, path) for name, clause in body.items() if clause is not None}}
    if kind == "ids" and isinstance(body.get("values"), list):
        return {kind: {**body, "values": [read_id(identifier) for identifier in body["values"]]}}
    if kind == "range":
        return {kind: {field: _drop_open(bounds) for field, bounds in body.items()}}
    for field, value in body.items():
        wanted = value.get("value") if kind in _OF_ONE_VALUE and isinstance(value, dict) else value
        if (kind in _OF_ONE_VALUE and wanted is None) or (
            kind == "terms" and isinstance(value, list) and None in value
        ):
            raise InvalidInput(
                f"{path}.{field} looks for None, which no document holds; find documents without a field by must_not "
                "and exists"
            )
    return query


def _read_clauses(name: str, clause: Any, path: str) -> Any:
    if name not in _CLAUSES:
        return clause
    if isinstance(clause, dict):
        return _read_query(clause, f"{path}.{name}") if len(clause) == 1 else clause
    if isinstance(clause, list):
        return [
            _read_query(query, f"{path}.{name}[{place}]") if isinstance(query, dict) and len(query) == 1 else query
            for place, query in enumerate(clause)
        ]
    return clause


def _drop_open(bounds: Any) -> Any:
    return {name: bound for name, bound in bounds.items() if bound is not None} if isinstance(bounds, dict) else bounds
