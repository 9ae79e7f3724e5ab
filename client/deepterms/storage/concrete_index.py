"""Concrete indices: what is behind a name, made and deleted together with what belongs to it alone.

That is a pipeline with the encoder's parameters, and a companion with its pivots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.responses import meta_of
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pivots import Pivots, Reach, find_pivots
from deepterms.encoders.spec import explain_errors
from deepterms.errors import ClusterError, InvalidInput, RequestRejected, UnsupportedEngine
from deepterms.schema.index_pipeline import index_pipeline
from deepterms.schema.layouts import Layout, find_layout
from deepterms.schema.scripts import DENSE_VECTOR
from deepterms.schema.sketches import SKETCH
from deepterms.schema.vectors import StoreVectors, parse_vector_type
from deepterms.storage.dense_vector import check_functions, dense_vector_field
from deepterms.storage.pivot_index import delete_companions, owner_of, write_companion

__all__ = [
    "IndexMeta",
    "concretes_of",
    "create_concrete",
    "delete_concrete",
    "index_meta",
    "index_path",
    "read_meta",
    "with_derived",
]

# By these a URL or an engine would take a name for several, or for something else than an index.
_NOT_IN_NAME = frozenset('*,/\\?#"<>| :%')


def index_path(name: str) -> str:
    """The path of one index or alias: ``/holidays``.

    Raises:
        InvalidInput: the engine would read the name as a pattern, a list, or something else than an index.
    """
    if not name or name[0] in "_-." or _NOT_IN_NAME & set(name) or not name.isprintable():
        raise InvalidInput(f"{name!r} is not the name of one index or alias; patterns and lists are not opened")
    return f"/{quote(name, safe='')}"


class IndexMeta(BaseModel):
    """What an index says of itself in its mapping, as `index_meta` wrote it. Later releases may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    layout: str
    version: int = Field(ge=1)
    encoder: dict[str, Any]
    vector_type: str | None = None
    dense_vector: bool = False
    sketch: bool = False
    extractor: dict[str, Any] = Field(default_factory=dict)
    rerank: int | None = Field(default=None, ge=0)

    def layout_in_use(self) -> Layout:
        """The layout, in the version with which the index was made."""
        return replace(find_layout(self.layout), version=self.version)


def read_meta(meta: Any, *, name: str) -> IndexMeta:
    """Check what stands under ``_meta.deepterms`` of the index `name`.

    Raises:
        ClusterError: it is not what deepterms writes there.
    """
    if not isinstance(meta, Mapping) or "encoder" not in meta:
        raise ClusterError(f"the index {name!r} names no encoder in its _meta.deepterms: it was not made by deepterms")
    try:
        return IndexMeta.model_validate(dict(meta))
    except ValidationError as error:
        raise ClusterError(
            f"the index {name!r} says of itself in _meta.deepterms what this release cannot read: "
            f"{explain_errors(error, whole='_meta.deepterms')}. "
            "It may have been made by a newer deepterms; upgrade, or create the index anew"
        ) from error


def index_meta(
    *,
    layout: Layout,
    encoder: Encoder,
    store_vectors: StoreVectors | None,
    extractor: Mapping[str, Any],
    rerank: int | None = None,
    dense_vector: bool = False,
    sketch: bool = False,
) -> dict[str, Any]:
    """What an index says of itself in its mapping, under ``_meta.deepterms``.

    Without `rerank`, how many candidates its searches re-rank, the encoder says that.
    """
    meta: dict[str, Any] = {
        "layout": layout.name,
        "version": layout.version,
        "encoder": encoder.spec(),
        "vectors": parse_vector_type(store_vectors),
        "extractor": dict(extractor),
    }
    if rerank is not None:
        meta["rerank"] = rerank
    if dense_vector:
        meta["dense_vector"] = True
    if sketch:
        meta["sketch"] = True
    return meta


def create_concrete(
    cluster: Cluster,
    concrete: str,
    *,
    layout: Layout,
    encoder: Encoder,
    settings: Mapping[str, Any],
    mappings: Mapping[str, Any],
    alias: str | None = None,
    reach: Reach | None = None,
) -> None:
    """Create the index behind a name, with or without the name as its alias; with its pipeline and its pivots, if any.

    Args:
        cluster: where.
        concrete: from `Layout.index_name`.
        layout: whose template it gets.
        encoder: of its documents.
        settings: beside the template's: shards and replicas.
        mappings: beside the template's: ``_meta`` with what `index_meta` returned.
        alias: the name, if it is to point here at once.
        reach: as for `write_companion`.

    Raises:
        ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
        UnsupportedEngine: a dense_vector is asked for, and the server's scripts cannot compare by it.
        RequestRejected: such an index exists already, or the engine refuses the body.
    """
    template = _require_template(cluster, layout, concrete)
    meta = mappings["_meta"]["deepterms"]
    derived: dict[str, Any] = {}
    if dense_vector := bool(meta.get("dense_vector")):
        derived[DENSE_VECTOR] = dense_vector_field(encoder.dimensions)
    if sketch := bool(meta.get("sketch")):
        derived[SKETCH] = {"type": "binary", "doc_values": True}
    pipeline = index_pipeline(
        encoder,
        layout=layout,
        store_vectors=parse_vector_type(meta["vectors"]),
        dense_vector=dense_vector,
        sketch=sketch,
    )
    own = dict(settings)
    if pipeline is not None:
        _require_pipeline(cluster, layout.encode_pipeline)
        own["default_pipeline"] = concrete
    body: dict[str, Any] = {"settings": own, "mappings": with_derived(mappings, template["mappings"], derived)}
    if alias is not None:
        body["aliases"] = {alias: {}}
    # The pivots before the index: whoever finds that can encode. Two creators' do not get into each other's way.
    pivots = find_pivots(encoder)
    stored = pivots is not None and write_companion(cluster, concrete, pivots, reach=reach)
    # The index before its pipeline: whoever makes it owns the name. The other way round, the second of two creators
    # would put its encoder's parameters under the first one's index.
    try:
        cluster.request("PUT", f"/{concrete}", body=body)
    except RequestRejected:
        if stored and pivots is not None and not _needs(cluster, concrete, pivots):
            delete_companions(cluster, concrete, checksum=pivots.checksum)
        raise
    try:
        if pipeline is not None:
            cluster.request("PUT", f"/_ingest/pipeline/{concrete}", body=pipeline)
        if dense_vector:
            check_functions(cluster, concrete, dimensions=encoder.dimensions)
    except (RequestRejected, UnsupportedEngine):
        delete_concrete(cluster, concrete)
        raise


def with_derived(
    mappings: Mapping[str, Any], template: Mapping[str, Any], derived: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The mappings of one index with fields that its pipeline fills, which stay out of ``_source``.

    So does what its template keeps out: the engine takes the one list or the other.
    """
    if not derived:
        return mappings
    return {
        **mappings,
        "_source": {"excludes": [*template.get("_source", {}).get("excludes", []), *derived]},
        "properties": {**mappings.get("properties", {}), **derived},
    }


def concretes_of(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """The concrete indices that were made for a name, wherever it points: the engine's answer on each.

    A migration may have left an older one, or an unfinished copy.

    Args:
        cluster: where.
        name: the alias.
    """
    path = index_path(name)
    ours = re.compile(rf"deepterms-[a-z_]+-v\d+-{re.escape(name)}-\d{{6}}")
    answer = cluster.request("GET", f"/deepterms-*-{path.removeprefix('/')}-*")
    return {
        concrete: answer[concrete]
        for concrete in sorted(answer)
        if ours.fullmatch(concrete) and owner_of(concrete) is None
    }


def delete_concrete(cluster: Cluster, concrete: str) -> None:
    """Delete one concrete index, and what belongs to it alone. One that was cut is repeated.

    A reader that has the pivots already goes on; nobody can open the index any more from here on.
    """
    # Before the index: once that is gone, somebody may make one of the same name, with the same pivots.
    delete_companions(cluster, concrete)
    cluster.request("DELETE", f"/{concrete}")
    try:  # afterwards: Elasticsearch refuses to delete a pipeline that an index names
        cluster.request("DELETE", f"/_ingest/pipeline/{concrete}")
    except RequestRejected as error:
        if error.status != 404:  # it had none
            raise


def _needs(cluster: Cluster, concrete: str, pivots: Pivots) -> bool:
    """Whether there is such an index, by somebody else, and with the same pivots."""
    try:
        answer = cluster.request("GET", f"/{concrete}/_mapping")
    except RequestRejected as error:
        if error.status == 404:
            return False
        raise
    meta = meta_of(answer[concrete]) or {}
    return bool(meta.get("encoder", {}).get("pivots", {}).get("checksum") == pivots.checksum)


def _require_template(cluster: Cluster, layout: Layout, concrete: str) -> dict[str, Any]:
    """What an index gets from its template.

    Raises:
        ClusterError: it would not get the layout's settings, and index words that nobody can find.
    """
    answer = cluster.request("POST", f"/_index_template/_simulate_index/{concrete}")
    pipeline = answer.get("template", {}).get("settings", {}).get("index", {}).get("default_pipeline")
    if pipeline is None:
        raise ClusterError(f"the template {layout.resource} is not in the cluster; call deepterms.deploy(client) first")
    if pipeline != layout.resource:
        raise ClusterError(
            f"another index template overrides {layout.resource} for {concrete} (its pipeline is {pipeline!r}); "
            "lower that template's priority or narrow its patterns"
        )
    return dict(answer["template"])


def _require_pipeline(cluster: Cluster, name: str) -> None:
    """Refuse to create an index whose documents would all be refused."""
    try:
        cluster.request("GET", f"/_ingest/pipeline/{name}")
    except RequestRejected as error:
        if error.status != 404:
            raise
        raise ClusterError(f"the pipeline {name} is not in the cluster; call deepterms.deploy(client) first") from error
