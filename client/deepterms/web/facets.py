"""Facets: which values the metadata of an index has, and how many documents have each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from deepterms.web.filters import Between, filter_of

__all__ = ["Facet", "facets_of"]

FIELDS = 24  # looked at
VALUES = 12  # shown of a field; numbers of more are a range
NOT_FACETS = frozenset({"id", "path", "title", "url"})  # another value for every document
_TEXT, _NUMBER = frozenset({"keyword", "boolean"}), frozenset({"long", "integer", "short", "double", "float"})


@dataclass(frozen=True)
class Facet:
    """One field of the metadata.

    Attributes:
        field: such as ``place.city``.
        values: value → documents that have it and fit the choices of all other fields, most first.
        more: the field has further values.
        least: of a range, the smallest number; None if this is no range.
        most: of a range, the largest number.
    """

    field: str
    values: tuple[tuple[Any, int], ...] = ()
    more: bool = False
    least: float | None = None
    most: float | None = None


def facets_of(index: Any, choices: Mapping[str, list[Any] | Between]) -> list[Facet]:
    """The facets of an index.

    Args:
        index: a `SurrogateIndex`, whose engine counts, or a `MemoryIndex`.
        choices: that are made; those of a field leave its own counts as they are, so that one can choose more.

    Raises:
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    return _counted_by_engine(index, choices) if hasattr(index, "cluster") else _counted_here(index, choices)


def _others(choices: Mapping[str, list[Any] | Between], field: str) -> dict[str, Any]:
    rest = {name: choice for name, choice in choices.items() if name != field}
    return filter_of(rest) or {"match_all": {}}


def _counted_by_engine(index: Any, choices: Mapping[str, list[Any] | Between]) -> list[Facet]:
    path = f"/{quote(index.name, safe='')}"
    fields: dict[str, str] = {}
    for mapping in index.cluster.request("GET", f"{path}/_mapping").values():
        fields |= dict(_fields(mapping["mappings"].get("properties", {}).get("metadata", {}), ""))
    fields = dict(list(fields.items())[:FIELDS])
    if not fields:
        return []
    aggregations: dict[str, Any] = {}
    for number, (field, kind) in enumerate(fields.items()):
        of = {"field": f"metadata.{field}"}
        inner: dict[str, Any] = {"values": {"terms": {**of, "size": VALUES + 1}}}
        if kind in _NUMBER:
            inner["range"] = {"stats": of}
            aggregations[f"all{number}"] = {"cardinality": of}
        aggregations[f"f{number}"] = {"filter": _others(choices, field), "aggs": inner}
    answer = index.cluster.request("POST", f"{path}/_search", body={"size": 0, "aggs": aggregations})
    facets: list[Facet | None] = []
    for number, (field, kind) in enumerate(fields.items()):
        found = answer["aggregations"][f"f{number}"]
        buckets = found["values"]["buckets"]
        counts = [(bool(b["key"]) if kind == "boolean" else b["key"], int(b["doc_count"])) for b in buckets]
        if kind in _NUMBER and answer["aggregations"][f"all{number}"]["value"] > VALUES:
            numbers = found["range"]
            facets.append(Facet(field, least=numbers["min"] or 0, most=numbers["max"] or 0))
        else:
            facets.append(_facet(field, counts, documents=found["doc_count"], chosen=field in choices))
    return [facet for facet in facets if facet is not None]


def _fields(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Fields below metadata, with their types."""
    for name, inner in mapping.get("properties", {}).items():
        field = f"{prefix}{name}"
        if "properties" in inner:
            yield from _fields(inner, f"{field}.")
        elif inner.get("type") in _TEXT | _NUMBER and name not in NOT_FACETS:
            yield field, inner["type"]


def _counted_here(index: Any, choices: Mapping[str, list[Any] | Between]) -> list[Facet]:
    from deepterms.memory.filters import compile_filter

    documents = [index.get(id) for id in index.reconcile(()).extra]
    flat = {document.id: dict(_leaves(document.metadata, "")) for document in documents}
    fields: dict[str, set[Any]] = {}
    for leaves in flat.values():
        for field, values in leaves.items():
            fields.setdefault(field, set()).update(values)
    facets: list[Facet | None] = []
    for field, values in list(fields.items())[:FIELDS]:
        fits = compile_filter(_others(choices, field))
        held = [flat[document.id] for document in documents if fits(document.id, document.metadata)]
        counts = Counter(value for leaves in held for value in leaves.get(field, ()))
        if len(values) > VALUES and all(_is_number(value) for value in values):
            facets.append(Facet(field, least=min(counts, default=0), most=max(counts, default=0)))
        else:
            ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
            facets.append(_facet(field, ordered, documents=len(held), chosen=field in choices))
    return [facet for facet in facets if facet is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, set[Any]]]:
    """Fields with their different values; objects in arrays are left out."""
    for name, inner in value.items():
        field = f"{path}.{name}" if path else name
        if isinstance(inner, Mapping):
            yield from _leaves(inner, field)
        elif name not in NOT_FACETS:
            items = inner if isinstance(inner, list) else [inner]
            if values := {item for item in items if isinstance(item, str | int | float)}:
                yield field, values


def _facet(field: str, counts: list[tuple[Any, int]], *, documents: int, chosen: bool) -> Facet | None:
    """A facet of values; None for a field that tells no documents apart, or each from every other."""
    same = not counts or counts[0][1] == documents
    if not chosen and (same or counts[0][1] == 1):
        return None
    return Facet(field, tuple(counts[:VALUES]), more=len(counts) > VALUES)
