"""Deploys this release's templates and pipelines to a cluster: idempotent, and never over somebody else's change."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any, Literal

from deepterms.cluster.cluster import Cluster
from deepterms.cluster.templates import IndexTemplate, describe_override, find_template, list_templates
from deepterms.errors import DeploymentConflict, RequestRejected, UnsupportedEngine
from deepterms.schema.assets import Asset, list_assets
from deepterms.schema.layouts import LAYOUTS, Layout

__all__ = ["Change", "DeploymentPlan", "DeploymentReport", "apply", "check", "deploy", "plan", "rehearse"]

PRODUCT = "deepterms"

logger = logging.getLogger("deepterms")

State = Literal["missing", "same", "differs", "newer", "foreign"]
Action = Literal["create", "unchanged", "replace", "downgrade"]

_ACTIONS: dict[State, Action] = {
    "missing": "create",
    "same": "unchanged",
    "differs": "replace",
    "newer": "downgrade",
    "foreign": "replace",
}

_ADVICE: dict[State, str] = {
    "differs": "differs from this release's; to overwrite it, pass replace=True (deepterms deploy --replace)",
    "foreign": "was not made by deepterms; rename it or pass replace=True (deepterms deploy --replace) to overwrite it",
    "newer": "is of a later release; upgrade or pass allow_downgrade=True (--allow-downgrade) to overwrite it",
}

# Engines add these to a body themselves.
_STAMPS = frozenset({"created_date", "created_date_millis", "modified_date", "modified_date_millis"})


@dataclass(frozen=True)
class Change:
    """One resource of this release, compared with what the cluster holds under its name.

    Attributes:
        asset: the resource as this release defines it.
        state: the cluster's resource is ``missing``, the ``same``, ``differs``, is ``newer`` (has a higher
            ``version``), or is ``foreign`` (deepterms did not make it).
        version: the cluster's ``version``, or None if it has none.
        diff: unified diff from the cluster's body to this release's, both normalised; empty if missing or the same.
        overridden: which other template keeps this one from being used, whatever is deployed, and what to do; empty if
            none does.
    """

    asset: Asset
    state: State
    version: int | None = None
    diff: str = ""
    overridden: str = ""

    @property
    def action(self) -> Action:
        """What `apply` would do with it."""
        return _ACTIONS[self.state]


@dataclass(frozen=True)
class DeploymentPlan:
    """What a deployment would change, in the order in which it would write.

    Attributes:
        cluster: the cluster to deploy to.
        changes: one per resource, including unchanged ones.
    """

    cluster: Cluster = field(repr=False, compare=False)
    changes: tuple[Change, ...]

    @property
    def overridden(self) -> tuple[str, ...]:
        """A sentence for each template that another one in the cluster overrides; deploying does not help."""
        return tuple(change.overridden for change in self.changes if change.overridden)

    @property
    def pending(self) -> tuple[Change, ...]:
        """The resources that would be written."""
        return tuple(change for change in self.changes if change.action != "unchanged")

    def __str__(self) -> str:
        """One line per resource, then the diffs."""
        lines = [f"{change.action:<9} {change.asset.file}" for change in self.changes]
        return "\n".join(lines + [change.diff for change in self.changes if change.diff])


@dataclass(frozen=True)
class DeploymentReport:
    """What a deployment did: the files of the pipelines and templates, as ``folder/name.json``."""

    created: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def deploy(
    client: Any, *, layouts: Iterable[Layout] | None = None, replace: bool = False, allow_downgrade: bool = False
) -> DeploymentReport:
    """Write the pipelines, then the templates, of every layout the engine supports. A second call changes nothing.

    The same as `plan` followed by `apply`.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        layouts: the layouts to deploy; by default, all that the engine supports.
        replace: overwrite resources that differ, or that deepterms did not make.
        allow_downgrade: overwrite resources of a later release.

    Raises:
        DeploymentConflict: a resource would be overwritten without permission; carries the diffs.
        UnsupportedEngine: the engine does not support one of `layouts`, or supports no layout at all.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected a request.
    """
    return apply(plan(client, layouts=layouts), replace=replace, allow_downgrade=allow_downgrade)


def plan(client: Any, *, layouts: Iterable[Layout] | None = None) -> DeploymentPlan:
    """Compare the cluster with this release, without writing anything.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        layouts: the layouts to compare; by default, all that the engine supports.

    Raises:
        UnsupportedEngine: the engine does not support one of `layouts`, or supports no layout at all.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected a request.
    """
    cluster = Cluster(client)
    chosen = [layout for layout in LAYOUTS if layout.runs_on(cluster.engine)] if layouts is None else list(layouts)
    for layout in chosen:
        layout.require_engine(cluster.engine)
    if not chosen:
        raise UnsupportedEngine(f"{cluster.engine} supports none of the layouts")
    assets = sorted(list_assets(chosen), key=_dependency_rank)
    templates = list_templates(cluster)
    changes = (_compare(cluster, asset) for asset in assets)
    return DeploymentPlan(
        cluster, tuple(replaced(change, overridden=_find_override(change.asset, templates)) for change in changes)
    )


def check(client: Any, *, layouts: Iterable[Layout] | None = None) -> tuple[Change, ...]:
    """Return the resources that differ from this release's. Arguments and errors are those of `plan`."""
    return plan(client, layouts=layouts).pending


def rehearse(plan: DeploymentPlan, *, replace: bool = False, allow_downgrade: bool = False) -> None:
    """Check everything that `apply` checks before its first write.

    Sends each body that would be written to the engine's simulation, which compiles scripts and similarities and
    detects overlapping templates.

    Raises:
        DeploymentConflict: a resource would be overwritten without permission.
        RequestRejected: the engine rejects a body; the message names its file.
        ClusterUnreachable: the cluster did not respond.
    """
    _require_allowed(plan.pending, replace=replace, allow_downgrade=allow_downgrade)
    for change in plan.pending:
        path, body = _build_simulation(change.asset)
        try:
            plan.cluster.request("POST", path, body=body)
        except RequestRejected as error:
            raise RequestRejected(
                f"{change.asset.file} cannot be deployed, so nothing was changed: {error}",
                status=error.status,
                body=error.body,
            ) from error


def apply(plan: DeploymentPlan, *, replace: bool = False, allow_downgrade: bool = False) -> DeploymentReport:
    """Rehearse, then write the changes: a resource is written before those that refer to it.

    The only state is the cluster's, so an interrupted deployment resumes when it is repeated. Each resource is read
    again just before it is written, so a change made since the plan is never overwritten unseen.

    Args:
        plan: what `plan` returned.
        replace: overwrite resources that differ, or that deepterms did not make.
        allow_downgrade: overwrite resources of a later release.

    Raises:
        DeploymentConflict: a resource would be overwritten without permission; carries the diffs.
        ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected a request.
    """
    rehearse(plan, replace=replace, allow_downgrade=allow_downgrade)
    done: dict[Action, list[str]] = {action: [] for action in _ACTIONS.values()}
    for planned in plan.changes:
        change = planned
        if planned.action != "unchanged":
            change = _compare(plan.cluster, planned.asset)
            _require_allowed([change], replace=replace, allow_downgrade=allow_downgrade)
        if change.action != "unchanged":
            plan.cluster.request("PUT", change.asset.endpoint, body=change.asset.body)
        done[change.action].append(change.asset.file)
    for sentence in plan.overridden:
        logger.warning("no index can be created yet: %s", sentence)
    return DeploymentReport(
        created=tuple(done["create"]),
        replaced=(*done["replace"], *done["downgrade"]),
        unchanged=tuple(done["unchanged"]),
    )


def diff_asset(asset: Asset, held: Mapping[str, Any]) -> str:
    """Return the unified diff from the body the cluster holds to this release's; empty if they are equivalent."""
    theirs, ours = (
        json.dumps(normalise_body(asset.kind, body), indent=2, sort_keys=True, ensure_ascii=False).splitlines()
        for body in (held, asset.body)
    )
    return "\n".join(difflib.unified_diff(theirs, ours, f"cluster/{asset.file}", asset.file, lineterm="", n=2))


def normalise_body(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a body from a file or from either engine to the same form.

    Engines return settings as text under ``index``, and add timestamps and an empty ``composed_of``.
    """
    result = {key: value for key, value in body.items() if key not in _STAMPS and value not in ([], {})}
    if kind == "index_templates":
        template = dict(result.get("template", {}))
        if "settings" in template:
            template["settings"] = dict(_flatten_settings(template["settings"]))
        if "_doc" in template.get("mappings", {}):
            template["mappings"] = template["mappings"]["_doc"]
        result["template"] = template
    return result


def _dependency_rank(asset: Asset) -> int:
    """Rank pipelines that take terms before pipelines that encode and may call those; templates refer to either."""
    if asset.kind != "ingest_pipelines":
        return 2
    return 1 if asset.name.startswith(f"{PRODUCT}-encode-") else 0


def _compare(cluster: Cluster, asset: Asset) -> Change:
    held = _read(cluster, asset)
    if held is None:
        return Change(asset, "missing")
    version = held.get("version")
    diff = diff_asset(asset, held)
    state: State = "differs" if diff else "same"
    # OpenSearch allows no _meta in a pipeline, so ours are recognised by their version.
    ours = version is not None if asset.kind == "ingest_pipelines" else held.get("_meta", {}).get("product") == PRODUCT
    if not ours:
        state = "foreign"
    elif version is not None and version > asset.body["version"]:
        state = "newer"
    return Change(asset, state, version, diff)


def _read(cluster: Cluster, asset: Asset) -> dict[str, Any] | None:
    """Return the body that the cluster holds under the asset's name, or None."""
    response = cluster.find(asset.endpoint)
    if not response:
        return None
    if asset.kind == "ingest_pipelines":
        return dict(response[asset.name])
    (template,) = response["index_templates"]
    return dict(template["index_template"])


def _find_override(asset: Asset, templates: Sequence[IndexTemplate]) -> str:
    """Describe which template an index would get instead of ours; empty if it would get ours, once it is deployed."""
    if asset.kind != "index_templates":
        return ""
    others = [template for template in templates if template.name != asset.name]
    winner = find_template(others, f"{asset.name}-name-000001")
    return "" if winner is None or winner.priority < asset.body["priority"] else describe_override(winner, asset.name)


def _require_allowed(changes: Iterable[Change], *, replace: bool, allow_downgrade: bool) -> None:
    """Raise DeploymentConflict if a change would overwrite a resource without permission."""
    allowed = {"create": True, "unchanged": True, "replace": replace, "downgrade": allow_downgrade}
    conflicts = [change for change in changes if not allowed[change.action]]
    if not conflicts:
        return
    lines = [f"{change.asset.file} in the cluster {_ADVICE[change.state]}" for change in conflicts]
    diffs = {change.asset.file: change.diff for change in conflicts}
    raise DeploymentConflict("\n".join([*lines, "None of these was changed.", *diffs.values()]), diffs=diffs)


def _build_simulation(asset: Asset) -> tuple[str, dict[str, Any]]:
    """Return the path and body of a request that makes the engine check the asset without storing it."""
    folder = asset.endpoint.removesuffix(asset.name)
    if asset.kind == "ingest_pipelines":
        # The document's fate does not matter: an invalid pipeline is rejected before it runs.
        return f"{folder}_simulate", {"pipeline": asset.body, "docs": [{"_source": {}}]}
    # With the name in the path; otherwise the template would overlap with its own earlier version.
    return f"{folder}_simulate/{asset.name}", asset.body


def _flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten settings to sorted (``index.similarity.x.type``, text) pairs."""
    flat: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = prefix + key
        if isinstance(value, Mapping):
            flat += _flatten_settings(value, f"{name}.")
        else:
            full = name if name.startswith("index.") else f"index.{name}"
            if isinstance(value, list):
                flat.append((full, [_format_setting(item) for item in value]))
            else:
                flat.append((full, _format_setting(value)))
    return sorted(flat, key=lambda pair: pair[0])


def _format_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
