"""Concrete indices: creates and deletes the index behind a name, together with its own pipeline and pivot index."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import extract_reason
from deepterms.encoders.pivots.pivots import Pivots, Reach, find_pivots
from deepterms.errors import ClusterError, InvalidInput, RequestRejected, UnsupportedEngine
from deepterms.schema.index_mappings import build_index_mappings
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec, read_meta
from deepterms.schema.layouts import Layout
from deepterms.schema.metadata_schema import parse_analysis
from deepterms.storage.dense_vector import check_functions
from deepterms.storage.pivot_index import delete_pivot_indices, find_owner, write_pivots

__all__ = ["add_alias", "create_concrete", "delete_concrete", "list_concrete_indices"]

_CHECK_PRIORITY = 2**40


def create_concrete(
    cluster: Cluster,
    concrete: str,
    *,
    spec: IndexSpec,
    settings: Mapping[str, Any],
    learnt: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    reach: Reach | None = None,
) -> None:
    """Create the index behind a name, with its pipeline and its pivots, if any; `add_alias` then adds the name.

    Args:
        cluster: the cluster.
        concrete: the name of the index, from `Layout.index_name`.
        spec: the spec of the index.
        settings: settings in addition to the template's: shards, replicas and the limit of fields.
        learnt: as for `build_index_mappings`.
        origin: the content of ``_meta.deepterms.migration``, for a copy.
        reach: as for `write_pivots`.

    Raises:
        InvalidInput: the engine cannot create the spec's schema.
        ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
        UnsupportedEngine: the spec has a dense_vector, which the server's scripts cannot compare.
        RequestRejected: the index already exists, or the engine rejected the request body.
    """
    template = _require_template(cluster, spec.layout, concrete)
    body = build_index_pipeline(spec)
    _require_pipeline(cluster, body["processors"])
    meta = spec.to_meta() | ({"migration": dict(origin)} if origin else {})
    index: dict[str, Any] = {
        "settings": {**settings, "default_pipeline": concrete},
        "mappings": build_index_mappings(spec, template["mappings"], meta=meta, learnt=learnt),
    }
    if spec.analysis:
        taken = template["settings"]["index"].get("analysis")
        index["settings"]["analysis"] = parse_analysis(spec.analysis, template=taken)
    if spec.schema or spec.analysis:
        _check_schema(cluster, concrete, index)
    # Pivots before the index, so that any client that finds the index can encode. Concurrent creators do not conflict.
    pivots = find_pivots(spec.encoder)
    stored = pivots is not None and write_pivots(cluster, concrete, pivots, reach=reach)
    # The index before its pipeline, since creating the index claims the name. Otherwise, the second of two creators
    # would replace the pipeline of the first one's index, with the parameters of another encoder.
    try:
        cluster.request("PUT", build_index_path(concrete), body=index)
    except RequestRejected:
        if stored and pivots is not None and not _has_pivots(cluster, concrete, pivots):
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
    """Add the alias of a concrete index, once the index is complete.

    It is the write index of the alias. The engine allows only one, so of two creators of a name one fails.

    Raises:
        RequestRejected: the name is in use.
    """
    action = {"add": {"index": concrete, "alias": name, "is_write_index": True}}
    cluster.request("POST", "/_aliases", body={"actions": [action]})


def list_concrete_indices(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """List the concrete indices that were created for a name, whether or not it points to them.

    A migration may have left an older one, or an unfinished copy.

    Args:
        cluster: the cluster.
        name: the alias.

    Returns:
        Concrete index → the engine's response about it.
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
    """Delete a concrete index, its pipeline and its pivot indices. Repeat the call after an interruption.

    Clients that have already loaded the pivots can continue to search; no client can open the index any more.
    """
    # Before the index: once it is deleted, another client may create an index of that name, with the same pivots.
    delete_pivot_indices(cluster, concrete)
    cluster.request("DELETE", f"/{concrete}")
    if cluster.request("HEAD", f"/{concrete}"):
        return  # another client has created it again, and with it the pipeline
    try:  # after the index: Elasticsearch rejects the deletion of a pipeline that an index uses
        cluster.request("DELETE", f"/_ingest/pipeline/{concrete}")
    except RequestRejected as error:
        if error.status not in (400, 404):  # 404: the index had no pipeline of its own
            raise


def _has_pivots(cluster: Cluster, concrete: str, pivots: Pivots) -> bool:
    """Whether another client created the index, and with the same pivots."""
    try:
        answer = cluster.request("GET", f"/{concrete}/_mapping")
    except RequestRejected as error:
        if error.status == 404:
            return False
        raise
    meta = read_meta(answer[concrete]) or {}
    return bool(meta.get("encoder", {}).get("pivots", {}).get("checksum") == pivots.checksum)


def _require_template(cluster: Cluster, layout: Layout, concrete: str) -> dict[str, Any]:
    """Return what an index would get from its template.

    Raises:
        ClusterError: it would not get the layout's settings, so its documents could not be found.
    """
    answer = cluster.request("POST", f"/_index_template/_simulate_index/{concrete}")
    pipeline = answer.get("template", {}).get("settings", {}).get("index", {}).get("default_pipeline")
    if pipeline is None:
        raise ClusterError(f"the template {layout.resource} is not in the cluster; call deepterms.deploy(client) first")
    if pipeline != layout.resource:
        raise ClusterError(
            f"another index template overrides {layout.resource} for {concrete} (its pipeline is {pipeline!r}); "
            "lower its priority or narrow its patterns"
        )
    return dict(answer["template"])


def _check_schema(cluster: Cluster, concrete: str, index: Mapping[str, Any]) -> None:
    """Raise InvalidInput unless the engine could create an index with these settings and mappings."""
    fields = {"metadata": index["mappings"]["properties"].get("metadata", {"type": "object"})}
    settings = {key: index["settings"][key] for key in ("analysis",) if key in index["settings"]}
    template = {"settings": settings, "mappings": {"properties": fields}}
    # Of a priority that no other template has, since the engine rejects two that are equal.
    body = {"index_patterns": [concrete], "priority": _CHECK_PRIORITY, "template": template}
    try:
        cluster.request("POST", f"/_index_template/_simulate_index/{concrete}", body=body)
    except RequestRejected as error:
        if error.status != 400:
            raise
        reason = extract_reason(error.body.get("error") if isinstance(error.body, Mapping) else error.body)
        lacking = re.search(r"(?:No handler for|The mapper) type \[(.*?)\] declared on field \[(.*?)\]", reason)
        raise InvalidInput(
            f"{cluster.engine} has no type {lacking[1]!r} for metadata, which the schema declares for {lacking[2]!r}; "
            "use another type, or install the engine's module or plugin"
            if lacking
            else f"{cluster.engine} cannot create the schema of the metadata: {reason}"
        ) from error


def _require_pipeline(cluster: Cluster, processors: Sequence[Mapping[str, Any]]) -> None:
    """Raise ClusterError if a pipeline is missing that the index's own one calls, and would reject all documents."""
    for name in (processor["pipeline"]["name"] for processor in processors if "pipeline" in processor):
        try:
            cluster.request("GET", f"/_ingest/pipeline/{name}")
        except RequestRejected as error:
            if error.status != 404:
                raise
            raise ClusterError(
                f"the pipeline {name} is not in the cluster; call deepterms.deploy(client) first"
            ) from error
