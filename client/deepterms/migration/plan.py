"""Migration plan: derives the spec of the new index from that of the old one and the user's options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.migration.generations import Generations
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import Layout, find_layout
from deepterms.schema.metadata_schema import change_schema
from deepterms.schema.native_vectors import NATIVE, Compare, is_native_possible, parse_compare
from deepterms.schema.sketches import wants_sketch
from deepterms.schema.vectors import VectorType
from deepterms.storage.encoder_loading import load_encoder

__all__ = ["MigrationPlan", "parse_layout", "plan_migration"]


def parse_layout(text: str) -> Layout:
    """Parse a layout as users write it: ``words``, or ``words-v2`` for a version.

    Raises:
        InvalidInput: there is no such layout.
    """
    match = re.fullmatch(r"(.+)-v([1-9]\d*)", text)
    return replace(find_layout(match[1]), version=int(match[2])) if match else find_layout(text)


@dataclass(frozen=True)
class MigrationPlan:
    """The index to migrate, and the spec of its successor.

    Attributes:
        live: the concrete index that the name points to.
        layout: the layout of that index.
        spec: the spec of the new index.
        keep_terms: whether the encoder stays the same, so that stored terms are copied unchanged.
        stored_type: the type in which the old index stores vectors; None if it stores none.
    """

    live: str
    layout: Layout
    spec: IndexSpec
    keep_terms: bool
    stored_type: VectorType | None


def plan_migration(
    cluster: Cluster,
    name: str,
    *,
    to: Layout | None,
    encoder: Encoder | None,
    compare: Compare | None,
    sketch: bool | None,
    schema: Mapping[str, Any] | None = None,
) -> MigrationPlan:
    """Choose the spec of the new index, and check that it can be created from the old one.

    Args:
        cluster: the cluster.
        name: the alias.
        to: the layout and its version; None keeps the old one.
        encoder: the new encoder; None keeps the old one.
        compare: what compares vectors in the new index; None keeps the old choice if layout and encoder allow it.
        sketch: whether the new index has sketches; None keeps the old choice.
        schema: changes of the declared metadata fields, as for `change_schema`; None keeps them.

    Raises:
        InvalidInput: the new index cannot be created from what the old one stores.
        UnsupportedEngine: the engine cannot store it.
        IndexNotFound, ClusterError: as `Generations.of`.
    """
    before = Generations.of(cluster, name)
    meta = before.meta
    # With a new encoder, the old one is not rebuilt: its pivots may have been lost.
    wanted = encoder if encoder is not None else load_encoder(cluster, before.live, meta.encoder)
    keep_terms = wanted.spec() == meta.encoder
    vector_type = meta.find_vector_type()
    if not keep_terms and vector_type is None:
        raise InvalidInput(f"{name!r} stores no vectors to encode with {wanted}; index the documents again")
    if wanted.dimensions != meta.dimensions:
        raise InvalidInput(
            f"{name!r} stores vectors of {meta.dimensions} dimensions; {wanted} expects {wanted.dimensions}"
        )
    layout = meta.find_layout() if to is None else to
    asked = parse_compare(compare)
    if asked is None and meta.compare == NATIVE:
        possible = is_native_possible(cluster.engine, wanted, layout=layout, vector_type=vector_type)
        asked = NATIVE if possible and not sketch else "script"
    native = asked == NATIVE
    spec = IndexSpec(
        encoder=wanted,
        layout=layout,
        vector_type="int8" if native and vector_type is not None else vector_type,
        compare=asked or "script",
        sketch=wants_sketch(
            (meta.sketch and not native) if sketch is None else sketch,
            dimensions=wanted.dimensions,
            stores_vectors=vector_type is not None,
            rerank=0,  # not used, since `sketch` is not None
            native=native,
        ),
        # The best number depends on the encoder, but not on its spill.
        rerank=meta.rerank if _remove_spill(wanted.spec()) == _remove_spill(meta.encoder) else None,
        extractor=meta.extractor,
        schema=change_schema(meta.declared, schema or {}),
        analysis=meta.analysis,
    )
    spec.check(cluster.engine)
    return MigrationPlan(before.live, meta.find_layout(), spec, keep_terms, vector_type)


def _remove_spill(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "spill"}
