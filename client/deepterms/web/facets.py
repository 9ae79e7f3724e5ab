"""Facets: counts how many documents have each value of each metadata field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from deepterms.cluster.responses import is_incomplete
from deepterms.errors import ClusterError
from deepterms.web.filters import ValueRange, to_engine_filter

__all__ = ["Facet", "count_facets"]

MAX_FIELDS = 24
MAX_VALUES = 12  # per field; a numeric field with more values becomes a range
_LAST_TIME = 62_135_596_800_000  # milliseconds before 1970 at which the calendar of Python begins
NOT_FACETS = frozenset({"id", "path", "title", "url"})  # unique to each document
_TEXT = frozenset({"keyword", "boolean"})
_NUMBER = frozenset(
    {"byte", "double", "float", "half_float", "integer", "long", "scaled_float", "short", "unsigned_long"}
)
_DATE = frozenset({"date"})  # always a range, in days


@dataclass(frozen=True)
class Facet:
    """One field of the metadata.

    Attributes:
        field: such as ``place.city``.
        values: pairs of a value and the number of documents that have it and match the filters on all other fields,
            in descending order of that number.
        more: whether the field has further values.
        least: lower bound of a range, a number or a day such as ``2018-05-01``; None if the facet has values instead.
        most: upper bound of a range; None if the facet has values instead.
    """

    field: str
    values: tuple[tuple[Any, int], ...] = ()
    more: bool = False
    least: float | str | None = None
    most: float | str | None = None


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
        inner: dict[str, Any] = {}
        if kind not in _DATE:
            inner["values"] = {"terms": {**of, "size": MAX_VALUES + 1}}
        if kind not in _TEXT:
            inner["range"] = {"stats": of}
        if kind in _NUMBER:
            aggregations[f"all{number}"] = {"cardinality": of}
        aggregations[f"f{number}"] = {"filter": _filter_by_others(filters, field), "aggs": inner}
    response = index.cluster.request("POST", f"{path}/_search", body={"size": 0, "aggs": aggregations})
    if is_incomplete(response):
        raise ClusterError(f"a shard of {index.name!r} did not answer, so the values cannot be counted; try again")
    facets: list[Facet | None] = []
    for number, (field, kind) in enumerate(fields.items()):
        found = response["aggregations"][f"f{number}"]
        if kind in _DATE:
            facets.append(
                _date_facet(field, found["range"]["min"], found["range"]["max"], is_filtered=field in filters)
            )
            continue
        buckets = found["values"]["buckets"]
        read = bool if kind == "boolean" else _to_shortest
        counts = [(read(b["key"]), int(b["doc_count"])) for b in buckets]
        if kind in _NUMBER and response["aggregations"][f"all{number}"]["value"] > MAX_VALUES:
            numbers = found["range"]
            least, most = (_to_shortest(numbers[end] or 0) for end in ("min", "max"))
            facets.append(Facet(field, least=least, most=most))
        else:
            facets.append(_facet(field, counts, documents=found["doc_count"], is_filtered=field in filters))
    return [facet for facet in facets if facet is not None]


def _list_fields(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """The metadata fields of a mapping, with their types."""
    for name, inner in mapping.get("properties", {}).items():
        field = f"{prefix}{name}"
        if "properties" in inner and inner.get("type") != "nested":  # whose fields only a nested query sees
            yield from _list_fields(inner, f"{field}.")
        elif inner.get("type") in _TEXT | _NUMBER | _DATE and name not in NOT_FACETS and inner.get("doc_values", True):
            yield field, inner["type"]


def _count_in_memory(index: Any, filters: Mapping[str, list[Any] | ValueRange]) -> list[Facet]:
    from deepterms.memory.filters import compile_filter

    documents = [index.get(id) for id in index.reconcile(()).extra]
    kinds = {
        field: kind.name
        for field, kind in index.fields.types.items()
        if kind.name in _TEXT | _NUMBER | _DATE and field.rpartition(".")[2] not in NOT_FACETS
    }
    facets: list[Facet | None] = []
    for field, kind in list(kinds.items())[:MAX_FIELDS]:
        flat = {document.id: set(index.fields.read_shown(document.metadata, field)) for document in documents}
        if not any(flat.values()):
            continue
        matches = compile_filter(_filter_by_others(filters, field), index.fields)
        held = [flat[document.id] for document in documents if matches(document.id, document.metadata)]
        counts = Counter(value for values in held for value in values)
        if kind in _DATE:
            least, most = min(counts, default=None), max(counts, default=None)
            facets.append(_date_facet(field, least, most, is_filtered=field in filters))
        elif kind in _NUMBER and len(set().union(*flat.values())) > MAX_VALUES:
            least, most = (_to_shortest(end(counts, default=0)) for end in (min, max))
            facets.append(Facet(field, least=least, most=most))
        else:
            ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
            shown = [(value if kind == "boolean" else _to_shortest(value), count) for value, count in ordered]
            facets.append(_facet(field, shown, documents=len(held), is_filtered=field in filters))
    return [facet for facet in facets if facet is not None]


def _to_shortest(value: Any) -> Any:
    """A whole number without decimals: 40 rather than 40.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _date_facet(field: str, least: float | None, most: float | None, *, is_filtered: bool) -> Facet | None:
    """A facet of the days between two times in milliseconds; None for a field with one time or none."""
    if least is None or most is None or not all(abs(end) < _LAST_TIME for end in (least, most)):
        return None
    if least == most and not is_filtered:
        return None
    first, last = (datetime(1970, 1, 1) + timedelta(milliseconds=end) for end in (least, most))
    return Facet(field, least=first.date().isoformat(), most=last.date().isoformat())


def _facet(field: str, counts: list[tuple[Any, int]], *, documents: int, is_filtered: bool) -> Facet | None:
    """A facet of values; None for a field whose value is the same in all documents or different in each."""
    is_constant = not counts or counts[0][1] == documents
    if not is_filtered and (is_constant or counts[0][1] == 1):
        return None
    return Facet(field, tuple(counts[:MAX_VALUES]), more=len(counts) > MAX_VALUES)
