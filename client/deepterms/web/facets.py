"""Facets: counts how many documents have each value of each metadata field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError
from deepterms.web.filters import ValueRange, to_engine_filter

__all__ = ["Facet", "count_facets"]

MAX_FIELDS = 24
MAX_VALUES = 12  # per field; a numeric field with more values becomes a range
NOT_FACETS = frozenset({"id", "path", "title", "url"})  # unique to each document
_TEXT, _NUMBER = frozenset({"keyword", "boolean"}), frozenset({"long", "integer", "short", "double", "float"})


@dataclass(frozen=True)
class Facet:
    """One field of the metadata.

    Attributes:
        field: such as ``place.city``.
        values: pairs of a value and the number of documents that have it and match the filters on all other fields,
            in descending order of that number.
        more: whether the field has further values.
        least: lower bound of a range; None if the facet has values instead.
        most: upper bound of a range; None if the facet has values instead.
    """

    field: str
    values: tuple[tuple[Any, int], ...] = ()
    more: bool = False
    least: float | None = None
    most: float | None = None


def count_facets(index: Any, filters: Mapping[str, list[Any] | ValueRange]) -> list[Facet]:
    """Count the facets of an index.

    Args:
        index: a `SurrogateIndex`, whose engine counts, or a `MemoryIndex`.
        filters: already applied. The filter on a field does not affect its own counts, so that users can select more
            values.

    Raises:
        ClusterError: a shard did not answer, so counts would be too small.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
    """
    return _count_in_engine(index, filters) if hasattr(index, "cluster") else _count_in_memory(index, filters)


def _filter_by_others(filters: Mapping[str, list[Any] | ValueRange], field: str) -> dict[str, Any]:
    rest = {name: wanted for name, wanted in filters.items() if name != field}
    return to_engine_filter(rest) or {"match_all": {}}


def _count_in_engine(index: Any, filters: Mapping[str, list[Any] | ValueRange]) -> list[Facet]:
    path = f"/{quote(index.name, safe='')}"
    fields: dict[str, str] = {}
    for mapping in index.cluster.request("GET", f"{path}/_mapping").values():
        fields |= dict(_list_fields(mapping["mappings"].get("properties", {}).get("metadata", {}), ""))
    fields = dict(list(fields.items())[:MAX_FIELDS])
    if not fields:
        return []
    aggregations: dict[str, Any] = {}
    for number, (field, kind) in enumerate(fields.items()):
        of = {"field": f"metadata.{field}"}
        inner: dict[str, Any] = {"values": {"terms": {**of, "size": MAX_VALUES + 1}}}
        if kind in _NUMBER:
            inner["range"] = {"stats": of}
            aggregations[f"all{number}"] = {"cardinality": of}
        aggregations[f"f{number}"] = {"filter": _filter_by_others(filters, field), "aggs": inner}
    response = index.cluster.request("POST", f"{path}/_search", body={"size": 0, "aggs": aggregations})
    if is_incomplete(response):
        raise ClusterError(f"a shard of {index.name!r} did not answer, so the values cannot be counted; try again")
    facets: list[Facet | None] = []
    for number, (field, kind) in enumerate(fields.items()):
        found = response["aggregations"][f"f{number}"]
        buckets = found["values"]["buckets"]
        counts = [(bool(b["key"]) if kind == "boolean" else b["key"], int(b["doc_count"])) for b in buckets]
        if kind in _NUMBER and response["aggregations"][f"all{number}"]["value"] > MAX_VALUES:
            numbers = found["range"]
            facets.append(Facet(field, least=numbers["min"] or 0, most=numbers["max"] or 0))
        else:
            facets.append(_facet(field, counts, documents=found["doc_count"], is_filtered=field in filters))
    return [facet for facet in facets if facet is not None]


def _list_fields(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """The metadata fields of a mapping, with their types."""
    for name, inner in mapping.get("properties", {}).items():
        field = f"{prefix}{name}"
        if "properties" in inner:
            yield from _list_fields(inner, f"{field}.")
        elif inner.get("type") in _TEXT | _NUMBER and name not in NOT_FACETS:
            yield field, inner["type"]


def _count_in_memory(index: Any, filters: Mapping[str, list[Any] | ValueRange]) -> list[Facet]:
    from deepterms.memory.filters import compile_filter

    documents = [index.get(id) for id in index.reconcile(()).extra]
    flat = {document.id: dict(_list_values(document.metadata, "")) for document in documents}
    fields: dict[str, set[Any]] = {}
    for leaves in flat.values():
        for field, values in leaves.items():
            fields.setdefault(field, set()).update(values)
    facets: list[Facet | None] = []
    for field, values in list(fields.items())[:MAX_FIELDS]:
        matches = compile_filter(_filter_by_others(filters, field))
        held = [flat[document.id] for document in documents if matches(document.id, document.metadata)]
        counts = Counter(value for leaves in held for value in leaves.get(field, ()))
        if len(values) > MAX_VALUES and all(_is_number(value) for value in values):
            facets.append(Facet(field, least=min(counts, default=0), most=max(counts, default=0)))
        else:
            ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
            facets.append(_facet(field, ordered, documents=len(held), is_filtered=field in filters))
    return [facet for facet in facets if facet is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_values(value: Any, path: str) -> Iterator[tuple[str, set[Any]]]:
    """The fields of a document's metadata with their distinct values; objects in arrays are skipped."""
    for name, inner in value.items():
        field = f"{path}.{name}" if path else name
        if isinstance(inner, Mapping):
            yield from _list_values(inner, field)
        elif name not in NOT_FACETS:
            items = inner if isinstance(inner, list) else [inner]
            if values := {item for item in items if isinstance(item, str | int | float)}:
                yield field, values


def _facet(field: str, counts: list[tuple[Any, int]], *, documents: int, is_filtered: bool) -> Facet | None:
    """A facet of values; None for a field whose value is the same in all documents or different in each."""
    is_constant = not counts or counts[0][1] == documents
    if not is_filtered and (is_constant or counts[0][1] == 1):
        return None
    return Facet(field, tuple(counts[:MAX_VALUES]), more=len(counts) > MAX_VALUES)
