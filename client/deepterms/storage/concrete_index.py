"""Concrete indices: what is behind a name, made and deleted together with what belongs to it alone.

That is a pipeline with the encoder's parameters, and a companion with its pivots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.encoders.pivots.pivots import Pivots, Reach, find_pivots
from deepterms.errors import ClusterError, RequestRejected, UnsupportedEngine
from deepterms.schema.index_mappings import build_index_mappings
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec, read_meta
from deepterms.schema.layouts import Layout
from deepterms.storage.dense_vector import check_functions
from deepterms.storage.pivot_index import delete_pivot_indices, find_owner, write_pivots

__all__ = ["add_alias", "create_concrete", "delete_concrete", "list_concrete_indices"]


def create_concrete(
    cluster: Cluster,
    concrete: str,
    *,
    spec: IndexSpec,
    settings: Mapping[str, Any],
    properties: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    reach: Reach | None = None,
) -> None:
    """Create the index behind a name, with its pipeline and its pivots, if any; `add_alias` makes the name find it.

    Args:
        cluster: where.
        concrete: from `Layout.index_name`.
        spec: of the index.
        settings: in addition to the template's: shards and replicas.
        properties: mappings of fields in addition to the template's.
        origin: for a copy: what its ``_meta.deepterms.migration`` says.
        reach: as for `write_pivots`.

    Raises:
        ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
        UnsupportedEngine: a dense_vector is asked for, and the server's scripts cannot compare by it.
        RequestRejected: such an index exists already, or the engine rejects the body.
    """
    template = _require_template(cluster, spec.layout, concrete)
    body = build_index_pipeline(spec)
    _require_pipeline(cluster, body["processors"])
    meta = spec.to_meta() | ({"migration": dict(origin)} if origin else {})
    index = {
        "settings": {**settings, "default_pipeline": concrete},
        "mappings": build_index_mappings(spec, template["mappings"], meta=meta, properties=properties or {}),
    }
    # The pivots before the index: whoever finds the index can encode. Two creators do not disturb each other.
    pivots = find_pivots(spec.encoder)
    stored = pivots is not None and write_pivots(cluster, concrete, pivots, reach=reach)
    # The index before its pipeline: whoever creates the index owns the name. The other way round, the second of two
    # creators would put its encoder's parameters under the first one's index.
    try:
        cluster.request("PUT", build_index_path(concrete), body=index)
    except RequestRejected:
        if stored and pivots is not None and not _needs(cluster, concrete, pivots):
            delete_pivot_indices(cluster, concrete, checksum=pivots.checksum)
        raise
    try:
        cluster.request("PUT", f"/_ingest/pipeline/{concrete}", body=body)
        if spec.dense_vector:
            check_functions(cluster, concrete, dimensions=spec.encoder.dimensions)
    except (RequestRejected, UnsupportedEngine):
        delete_concrete(cluster, concrete)
        raise


def add_alias(cluster: Cluster, concrete: str, name: str) -> None:
    """Let a name point to a concrete index that is complete."""
    cluster.request("POST", "/_aliases", body={"actions": [{"add": {"index": concrete, "alias": name}}]})


def list_concrete_indices(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """The concrete indices that were made for a name, wherever it points: the engine's answer on each.

    A migration may have left an older one, or an unfinished copy.

    Args:
        cluster: where.
        name: the alias.
    """
    path = build_index_path(name)
    ours = re.compile(rf"deepterms-[a-z_]+-v\d+-{re.escape(name)}-\d{{6}}")
    answer = cluster.request("GET", f"/deepterms-*-{path.removeprefix('/')}-*")
    return {
        concrete: answer[concrete]
        for concrete in sorted(answer)
        if ours.fullmatch(concrete) and find_owner(concrete) is None
    }


def delete_concrete(cluster: Cluster, concrete: str) -> None:
    """Delete one concrete index, and what belongs to it alone. One that was cut is repeated.

    A reader that has the pivots already goes on; nobody can open the index any more from here on.
    """
    # Before the index: once that is gone, somebody may make one of the same name, with the same pivots.
    delete_pivot_indices(cluster, concrete)
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
    meta = read_meta(answer[concrete]) or {}
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


def _require_pipeline(cluster: Cluster, processors: Sequence[Mapping[str, Any]]) -> None:
    """Reject an index whose documents would all be rejected, since a pipeline that its own one calls is missing."""
    for name in (processor["pipeline"]["name"] for processor in processors if "pipeline" in processor):
        try:
            cluster.request("GET", f"/_ingest/pipeline/{name}")
        except RequestRejected as error:
            if error.status != 404:
                raise
            raise ClusterError(
                f"the pipeline {name} is not in the cluster; call deepterms.deploy(client) first"
            ) from error
