"""Foreign indices: reads the types of another index's fields, for an index that takes over its documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.errors import InvalidInput
from deepterms.schema.metadata_schema import FieldOptions, parse_schema

__all__ = ["read_schema"]

DEFAULT_LIMIT = 1_000  # of both engines, for the fields of an index
OWN_FIELDS = 20  # more than our own fields


def read_schema(client: Any, name: str, *, leave_out: Collection[str] = ()) -> FieldOptions:
    """Read the types of an index's fields, to create an index with the same fields as metadata.

    Formats, analyzers, multi-fields, aliases and nested objects are kept, so that the same filters match, with
    ``metadata.`` before the names of fields.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        name: the index, which deepterms need not have created.
        leave_out: fields that do not become metadata: that of the vectors.

    Returns:
        Keyword arguments of `SurrogateIndex.create`: ``schema``, and ``analysis`` and ``field_limit`` if they differ
        from the engine's defaults.

    Raises:
        InvalidInput: a field that is left out does not exist, or the name points to indices with different fields.
        IndexNotFound: there is no such index.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or rejected the request.
    """
    answers = list(Cluster(client).request("GET", build_index_path(name)).values())
    fields, *others = [answer["mappings"].get("properties", {}) for answer in answers]
    if any(other != fields for other in others):
        raise InvalidInput(f"{name!r} points to {len(answers)} indices with different fields; read one of them")
    if missing := sorted(set(leave_out) - set(fields)):
        raise InvalidInput(f"{name!r} has no field {missing[0]!r}; it has {', '.join(sorted(fields))}")
    kept = {field: _move(of) for field, of in fields.items() if field not in leave_out}
    options: FieldOptions = {"schema": parse_schema(kept)}
    settings = answers[0]["settings"]["index"]
    if analysis := settings.get("analysis"):
        options["analysis"] = analysis
    limit = int(settings.get("mapping", {}).get("total_fields", {}).get("limit", DEFAULT_LIMIT))
    if limit != DEFAULT_LIMIT or _count_fields(kept) + OWN_FIELDS > limit:
        options["field_limit"] = limit + OWN_FIELDS
    return options


def _move(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field as it is below ``metadata``: names of other fields in it get that prefix."""
    moved = dict(field)
    if field.get("type") == "alias":
        moved["path"] = f"metadata.{field['path']}"
    if "copy_to" in field:
        targets = field["copy_to"]
        moved["copy_to"] = [f"metadata.{target}" for target in ([targets] if isinstance(targets, str) else targets)]
    if "properties" in field:
        moved["properties"] = {name: _move(inner) for name, inner in field["properties"].items()}
    return moved


def _count_fields(fields: Mapping[str, Any]) -> int:
    below = (of.get(inner, {}) for of in fields.values() for inner in ("properties", "fields"))
    return len(fields) + sum(map(_count_fields, below))
