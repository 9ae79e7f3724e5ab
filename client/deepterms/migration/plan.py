"""What a migration is to make: the spec of the new index, from that of the old one and what is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from deepterms.cluster.cluster import Cluster
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.migration.generations import Generations
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import Layout, find_layout
from deepterms.schema.sketches import wants_sketch
from deepterms.storage.encoder_loading import load_encoder

__all__ = ["MigrationPlan", "parse_layout", "plan_migration"]


def parse_layout(text: str) -> Layout:
    """The layout that a user names: ``words``, or ``words-v2`` for a version.

    Raises:
        InvalidInput: there is no such layout.
    """
    match = re.fullmatch(r"(.+)-v([1-9]\d*)", text)
    return replace(find_layout(match[1]), version=int(match[2])) if match else find_layout(text)


@dataclass(frozen=True)
class MigrationPlan:
    """What a migration is to make of which index.

    Attributes:
        live: the concrete index that the name points to.
        layout: of that index.
        spec: of the new index.
        keep_terms: the encoder stays, so stored terms are copied as they are.
    """

    live: str
    layout: Layout
    spec: IndexSpec
    keep_terms: bool


def plan_migration(
    cluster: Cluster,
    name: str,
    *,
    to: Layout | None,
    encoder: Encoder | None,
    dense_vector: bool | None,
    sketch: bool | None,
) -> MigrationPlan:
    """Decide what the new index is made with, and check that it can be made from the old one.

    Args:
        cluster: where.
        name: the alias.
        to: the layout, and its version; None keeps the old one.
        encoder: None keeps the old one.
        dense_vector: None keeps what is.
        sketch: None keeps what is.

    Raises:
        InvalidInput: it cannot be made from what the old index stores.
        UnsupportedEngine: the engine cannot hold it.
        IndexNotFound, ClusterError: as `Generations.of`.
    """
    before = Generations.of(cluster, name)
    meta = before.meta
    # The old encoder is not rebuilt where a new one takes its place: its pivots may be what was lost.
    wanted = encoder if encoder is not None else load_encoder(cluster, before.live, meta.encoder)
    keep_terms = wanted.spec() == meta.encoder
    vector_type = meta.find_vector_type()
    if not keep_terms and vector_type is None:
        raise InvalidInput(f"{name!r} stores no vectors, so terms of {wanted} cannot be made from it; index it again")
    if wanted.dimensions != meta.dimensions:
        raise InvalidInput(f"{name!r} stores vectors of {meta.dimensions} dimensions; {wanted} takes another number")
    spec = IndexSpec(
        encoder=wanted,
        layout=meta.find_layout() if to is None else to,
        vector_type=vector_type,
        dense_vector=meta.dense_vector if dense_vector is None else dense_vector,
        sketch=wants_sketch(
            meta.sketch if sketch is None else sketch,
            dimensions=wanted.dimensions,
            stores_vectors=vector_type is not None,
            rerank=0,  # counts only where nothing is given
        ),
        rerank=meta.rerank if keep_terms else None,  # another encoder needs another depth
        extractor=meta.extractor,
    )
    spec.check(cluster.engine)
    return MigrationPlan(before.live, meta.find_layout(), spec, keep_terms)
