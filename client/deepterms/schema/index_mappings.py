"""The mappings of one index: what its template cannot know, since it differs from index to index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.schema.dense_vector import build_dense_vector_field
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import CODEWORDS
from deepterms.schema.scripts import DENSE_VECTOR
from deepterms.schema.sketches import SKETCH

__all__ = ["build_index_mappings"]


def build_index_mappings(
    spec: IndexSpec, template: Mapping[str, Any], *, meta: Mapping[str, Any], properties: Mapping[str, Any]
) -> dict[str, Any]:
    """The mappings of an index, in addition to its template's.

    Fields that its pipeline fills stay out of ``_source``, as do those that its template keeps out: the engine takes
    the one list or the other.

    Args:
        spec: of the index.
        template: the mappings that it gets from its template.
        meta: what is to stand under ``_meta.deepterms``.
        properties: fields of the user's.
    """
    filled: dict[str, Any] = {}
    if spec.dense_vector:
        filled[DENSE_VECTOR] = build_dense_vector_field(spec.encoder.dimensions)
    if spec.sketch:
        filled[SKETCH] = {"type": "binary", "doc_values": True}
    alias = spec.codewords_alias
    mappings: dict[str, Any] = {
        "_meta": {"deepterms": dict(meta)},
        "properties": {
            **properties,
            **filled,
            **({} if alias is None else {alias: {"type": "alias", "path": CODEWORDS}}),
        },
    }
    if filled:
        excluded = template.get("_source", {}).get("excludes", [])
        mappings["_source"] = {"excludes": [*excluded, *filled]}
    return mappings
