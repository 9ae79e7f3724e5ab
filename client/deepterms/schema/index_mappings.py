"""Index mappings: builds the part of an index's mappings that depends on the index, so is not in its template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import CODEWORDS
from deepterms.schema.metadata_schema import merge_fields
from deepterms.schema.native_vectors import build_vector_field
from deepterms.schema.sketches import SKETCH

__all__ = ["build_index_mappings"]


def build_index_mappings(
    spec: IndexSpec, template: Mapping[str, Any], *, meta: Mapping[str, Any], learnt: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build the mappings of an index, in addition to those of its template.

    Fields that its pipeline fills are excluded from ``_source``, together with those that the template excludes: the
    engine does not merge the two lists.

    Args:
        spec: the spec of the index.
        template: the mappings from its template.
        meta: the content of ``_meta.deepterms``.
        learnt: the field ``metadata`` of the index to copy, without its declared fields; None for a new index.
    """
    filled: dict[str, Any] = {}
    if spec.sketch:
        filled[SKETCH] = {"type": "binary", "doc_values": True}
    alias = spec.codewords_alias
    mappings: dict[str, Any] = {
        "_meta": {"deepterms": dict(meta)},
        "properties": {
            **({} if not learnt and not spec.schema else {"metadata": _build_metadata(learnt or {}, spec.schema)}),
            **filled,
            # In place of the template's binary field of this name.
            **({"vector": build_vector_field(spec.encoder.dimensions)} if spec.is_native else {}),
            **({} if alias is None else {alias: {"type": "alias", "path": CODEWORDS}}),
        },
    }
    if filled:
        excluded = template.get("_source", {}).get("excludes", [])
        mappings["_source"] = {"excludes": [*excluded, *filled]}
    return mappings


def _build_metadata(learnt: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    fields = merge_fields(learnt.get("properties", {}), schema)
    return {"type": "object", "dynamic": True, **learnt, "properties": fields}
