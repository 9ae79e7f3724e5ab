"""Concrete indices: creates and deletes the index behind a name, together with its own pipeline and pivot index."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.index_names import OPEN_AND_CLOSED, build_index_path
from deepterms.cluster.responses import extract_reason
from deepterms.cluster.templates import describe_override, find_template, list_templates
from deepterms.encoders.pivots.pivots import Reach, find_pivots
from deepterms.errors import ClusterError, InvalidInput, RequestRejected, UnsupportedEngine
from deepterms.schema.index_mappings import build_index_mappings
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec, read_meta
from deepterms.schema.layouts import Layout
from deepterms.schema.metadata_schema import parse_analysis
from deepterms.schema.tuning import Tuning
from deepterms.storage.native_functions import check_functions
from deepterms.storage.pivot_index import PIVOT_INDEX_PREFIX, delete_pivot_indices, find_owner, has_gaps, write_pivots

__all__ = [
    "CREATION",
    "add_alias",
    "complete_concrete",
    "create_concrete",
    "delete_concrete",
    "delete_remains",
    "list_concrete_indices",
    "write_tuning",
]

CREATION = "creation"  # in ``_meta.deepterms``: a random text by which a creator recognises its own index

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
    tuning: Tuning | None = None,
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
        tuning: the settings that searches start with.

    Raises:
        InvalidInput: the engine cannot create the spec's schema.
        ClusterError: the layout's template or pipelines are not deployed, or another template overrides it.
        UnsupportedEngine: vectors are compared natively, but the server's scripts lack the function for the last step.
        RequestRejected: the index already exists, or the engine rejected the request body.
    """
    template = _require_template(cluster, spec.layout, concrete)
    _require_pipeline(cluster, build_index_pipeline(spec)["processors"])
    token = secrets.token_hex(8)
    meta = {**spec.to_meta(), CREATION: token, **({"migration": dict(origin)} if origin else {})}
    if tuning is not None:
        meta["tuning"] = tuning.to_meta()
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
    except RequestRejected as error:
        # A client library repeats a request if the response was lost.
        held = _read_held(cluster, concrete) or {}
        if "resource_already_exists" not in str(error) or held.get(CREATION) != token:
            if stored and pivots is not None and _read_checksum(held) != pivots.checksum:
                delete_pivot_indices(cluster, concrete, checksum=pivots.checksum)
            raise
    try:
        complete_concrete(cluster, concrete, spec, reach=reach)
    except (RequestRejected, UnsupportedEngine):
        delete_concrete(cluster, concrete)
        raise


def complete_concrete(cluster: Cluster, concrete: str, spec: IndexSpec, *, reach: Reach | None = None) -> None:
    """Create what an index with this spec needs before `add_alias`: its pipeline, and its pivots if they are missing.

    Several clients may do this at once, with equal results; so one can finish what another one was interrupted at.
    """
    cluster.request("PUT", f"/_ingest/pipeline/{concrete}", body=build_index_pipeline(spec))
    if spec.is_native:
        check_functions(cluster, concrete, dimensions=spec.encoder.dimensions)
    pivots = find_pivots(spec.encoder)
    # A client that was dropping an older index of this name may have deleted pivots that were written for this one.
    if pivots is not None and has_gaps(cluster, concrete, pivots.spec()):
        write_pivots(cluster, concrete, pivots, reach=reach)


def add_alias(cluster: Cluster, concrete: str, name: str) -> None:
    """Add the alias of a concrete index, once the index is complete.

    It is the write index of the alias. The engine allows only one, so of two creators of a name one fails.

    Raises:
        RequestRejected: the name is in use.
    """
    action = {"add": {"index": concrete, "alias": name, "is_write_index": True}}
    cluster.request("POST", "/_aliases", body={"actions": [action]})


def write_tuning(cluster: Cluster, concrete: str, tuning: Tuning, *, uuid: str) -> None:
    """Store in an index's mapping what was measured for its searches.

    Args:
        cluster: the cluster.
        concrete: the concrete index.
        tuning: what was measured.
        uuid: of the index that was measured.

    Raises:
        ClusterError: it was deleted meanwhile, and another one created.
    """
    answer = cluster.request("GET", build_index_path(concrete))[concrete]
    if answer["settings"]["index"]["uuid"] != uuid:
        raise ClusterError(f"{concrete} was created again while it was measured; tune it again")
    meta = {**(read_meta(answer) or {}), "tuning": tuning.to_meta()}
    cluster.request("PUT", f"/{concrete}/_mapping", body={"_meta": {"deepterms": meta}})


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
    ours = _match_names(name)
    answer = cluster.request("GET", f"/deepterms-*-{path.removeprefix('/')}-*", params=OPEN_AND_CLOSED)
    return {
        concrete: answer[concrete]
        for concrete in sorted(answer)
        if ours.fullmatch(concrete) and find_owner(concrete) is None
    }


def delete_concrete(cluster: Cluster, concrete: str) -> None:
    """Delete a concrete index, its pipeline and its pivot indices, in this order.

    So, after an interruption, the index either is complete, or is gone and has left only what `delete_remains` finds.
    What is already gone counts as deleted. Clients that have loaded the pivots can search until the index is gone.
    """
    _delete(cluster, f"/{concrete}")
    _delete_companions(cluster, concrete)


def delete_remains(cluster: Cluster, name: str) -> tuple[str, ...]:
    """Delete the pipelines and pivot indices of a name that belong to no index, and return their indices' names.

    An interrupted creation or deletion may have left them.
    """
    quoted = build_index_path(name).removeprefix("/")
    ours, indices = _match_names(name), list_concrete_indices(cluster, name)
    pipelines = cluster.find(f"/_ingest/pipeline/deepterms-*-{quoted}-*")
    pivots = cluster.find(f"/{PIVOT_INDEX_PREFIX}*-{quoted}-*/_mapping", params=OPEN_AND_CLOSED)
    owners = {*pipelines, *filter(None, map(find_owner, pivots))}
    gone = tuple(sorted(owner for owner in owners - indices.keys() if ours.fullmatch(owner)))
    for concrete in gone:
        _delete_companions(cluster, concrete)
    return gone


def _delete_companions(cluster: Cluster, concrete: str) -> None:
    """Delete the pipeline and the pivots of an index that is gone."""
    held = _read_held(cluster, concrete)
    if held is None:  # after the index: Elasticsearch rejects the deletion of a pipeline that an index uses
        _delete(cluster, f"/_ingest/pipeline/{concrete}", accept=(400, 404))
        delete_pivot_indices(cluster, concrete)
    else:  # another client has created it again: the pipeline is its own, and so may be the pivots
        delete_pivot_indices(cluster, concrete, keep=_read_checksum(held))


def _delete(cluster: Cluster, path: str, *, accept: Collection[int] = (404,)) -> None:
    """Delete something; that it is gone already is fine, since another client or a repeated request deleted it."""
    try:
        cluster.request("DELETE", path)
    except RequestRejected as error:
        if error.status not in accept:
            raise


def _match_names(name: str) -> re.Pattern[str]:
    return re.compile(rf"deepterms-[a-z_]+-v\d+-{re.escape(name)}-\d{{6}}")


def _read_held(cluster: Cluster, concrete: str) -> dict[str, Any] | None:
    """Read ``_meta.deepterms`` of an index; None if there is no such index."""
    answer = cluster.find(f"/{concrete}/_mapping")
    return dict(read_meta(answer[concrete]) or {}) if answer else None


def _read_checksum(held: Mapping[str, Any] | None) -> str | None:
    """Read the checksum of the pivots that an index needs from its metadata."""
    checksum = (held or {}).get("encoder", {}).get("pivots", {}).get("checksum")
    return None if checksum is None else str(checksum)


def _require_template(cluster: Cluster, layout: Layout, concrete: str) -> dict[str, Any]:
    """Return what an index would get from its template.

    Raises:
        ClusterError: it would not get the layout's settings, so its documents could not be found.
    """
    answer = cluster.request("POST", f"/_index_template/_simulate_index/{concrete}")
    pipeline = answer.get("template", {}).get("settings", {}).get("index", {}).get("default_pipeline")
    if pipeline != layout.resource:
        winner = find_template(list_templates(cluster), concrete)
        overridden = any(other.get("name") == layout.resource for other in answer.get("overlapping", ()))
        if overridden or (winner is not None and winner.name != layout.resource):
            lost = (
                "" if overridden else f". {layout.resource} is not in the cluster either: call deepterms.deploy(client)"
            )
            raise ClusterError(f"{concrete} cannot be created: {describe_override(winner, layout.resource)}{lost}")
        raise ClusterError(f"the template {layout.resource} is not in the cluster; call deepterms.deploy(client) first")
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
