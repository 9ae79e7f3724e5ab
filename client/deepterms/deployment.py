"""Deployment: the templates and pipelines of this release into a cluster, once, and never over somebody's change."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deepterms.cluster.cluster import Cluster
from deepterms.errors import DeploymentConflict, RequestRejected, UnsupportedEngine
from deepterms.schema.assets import Asset, assets_of
from deepterms.schema.layouts import LAYOUTS, Layout

__all__ = ["Change", "DeploymentReport", "Plan", "apply", "check", "deploy", "plan", "rehearse"]

PRODUCT = "deepterms"

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
    "differs": "differs from this release's; to overwrite it: replace=True (deepterms deploy --replace)",
    "foreign": "was not made by deepterms; rename it, or to overwrite it: replace=True (deepterms deploy --replace)",
    "newer": "is of a later release; upgrade, or to overwrite it: allow_downgrade=True (--allow-downgrade)",
}

# What engines add to a body on their own.
_STAMPS = frozenset({"created_date", "created_date_millis", "modified_date", "modified_date_millis"})


@dataclass(frozen=True)
class Change:
    """One resource of this release, and what the cluster holds under its name.

    Attributes:
        asset: what this release would put.
        state: the cluster's is ``missing``, the ``same``, ``differs``, is ``newer`` (a higher ``version``), or is
            ``foreign`` (deepterms did not make it).
        version: the cluster's ``version``; None where there is none.
        diff: unified diff from the cluster's body to this release's, both normalised; empty if missing or the same.
    """

    asset: Asset
    state: State
    version: int | None = None
    diff: str = ""

    @property
    def action(self) -> Action:
        """What `apply` would do."""
        return _ACTIONS[self.state]


@dataclass(frozen=True)
class Plan:
    """What a deployment would change, in the order in which it would.

    Attributes:
        cluster: where.
        changes: one a resource, unchanged ones too.
    """

    cluster: Cluster = field(repr=False, compare=False)
    changes: tuple[Change, ...]

    @property
    def pending(self) -> tuple[Change, ...]:
        """What is not as this release would put it."""
        return tuple(change for change in self.changes if change.action != "unchanged")

    def __str__(self) -> str:
        """One line a resource, then the differences."""
        lines = [f"{change.action:<9} {change.asset.file}" for change in self.changes]
        return "\n".join(lines + [change.diff for change in self.changes if change.diff])


@dataclass(frozen=True)
class DeploymentReport:
    """What a deployment did: names of pipelines and templates, as ``folder/name.json``."""

    created: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def deploy(
    client: Any, *, layouts: Iterable[Layout] | None = None, replace: bool = False, allow_downgrade: bool = False
) -> DeploymentReport:
    """Put the pipelines, then the templates, of every layout that the engine has. A second call changes nothing.

    `plan` and `apply` in one call.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        layouts: only these; default: all that the engine has.
        replace: overwrite resources that differ, or that deepterms did not make.
        allow_downgrade: overwrite resources of a later release.

    Raises:
        DeploymentConflict: a resource may not be overwritten; carries the differences.
        UnsupportedEngine: the engine lacks a layout asked for, or has none.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    return apply(plan(client, layouts=layouts), replace=replace, allow_downgrade=allow_downgrade)


def plan(client: Any, *, layouts: Iterable[Layout] | None = None) -> Plan:
    """Compare the cluster with this release; nothing is written.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        layouts: only these; default: all that the engine has.

    Raises:
        UnsupportedEngine: the engine lacks a layout asked for, or has none.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
    """
    cluster = Cluster(client)
    chosen = [layout for layout in LAYOUTS if layout.runs_on(cluster.engine)] if layouts is None else list(layouts)
    for layout in chosen:
        layout.require_engine(cluster.engine)
    if not chosen:
        raise UnsupportedEngine(f"{cluster.engine} has none of the layouts")
    return Plan(cluster, tuple(_compare(cluster, asset) for asset in sorted(assets_of(chosen), key=_rank)))


def check(client: Any, *, layouts: Iterable[Layout] | None = None) -> tuple[Change, ...]:
    """Drift: what in the cluster is not as this release would put it. Arguments and errors are those of `plan`."""
    return plan(client, layouts=layouts).pending


def rehearse(plan: Plan, *, replace: bool = False, allow_downgrade: bool = False) -> None:
    """Everything that `apply` does before its first write.

    Each body to be written goes through the engine's own simulation, which compiles scripts and similarities and finds
    templates that overlap.

    Raises:
        DeploymentConflict: a resource may not be overwritten.
        RequestRejected: the engine would not take a body; the message names its file.
        ClusterUnreachable: the cluster did not answer.
    """
    _require_allowed(plan.pending, replace=replace, allow_downgrade=allow_downgrade)
    for change in plan.pending:
        path, body = _simulation(change.asset)
        try:
            plan.cluster.request("POST", path, body=body)
        except RequestRejected as error:
            raise RequestRejected(
                f"{change.asset.file} cannot be deployed, so nothing was changed: {error}",
                status=error.status,
                body=error.body,
            ) from error


def apply(plan: Plan, *, replace: bool = False, allow_downgrade: bool = False) -> DeploymentReport:
    """Rehearse, then make the changes: first what other resources name, then what names it.

    There is no state besides the cluster's: a deployment that was cut is repeated, and goes on where it was. Each
    resource is read again just before it is written, so that what changed since the plan is not overwritten unseen.

    Args:
        plan: of `plan`.
        replace: overwrite resources that differ, or that deepterms did not make.
        allow_downgrade: overwrite resources of a later release.

    Raises:
        DeploymentConflict: a resource may not be overwritten; carries the differences.
        ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
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
    return DeploymentReport(
        created=tuple(done["create"]),
        replaced=(*done["replace"], *done["downgrade"]),
        unchanged=tuple(done["unchanged"]),
    )


def difference(asset: Asset, held: Mapping[str, Any]) -> str:
    """A unified diff from what the cluster holds to what this release would put; empty if they mean the same."""
    theirs, ours = (
        json.dumps(normalised(asset.kind, body), indent=2, sort_keys=True, ensure_ascii=False).splitlines()
        for body in (held, asset.body)
    )
    return "\n".join(difflib.unified_diff(theirs, ours, f"cluster/{asset.file}", asset.file, lineterm="", n=2))


def normalised(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body in the one form that both engines and the files can be brought to.

    Engines return settings as text under ``index``, add the time of a change, and add empty ``composed_of``.
    """
    result = {key: value for key, value in body.items() if key not in _STAMPS and value not in ([], {})}
    if kind == "index_templates":
        template = dict(result.get("template", {}))
        if "settings" in template:
            template["settings"] = dict(_flat_settings(template["settings"]))
        if "_doc" in template.get("mappings", {}):
            template["mappings"] = template["mappings"]["_doc"]
        result["template"] = template
    return result


def _rank(asset: Asset) -> int:
    """Pipelines that take terms, pipelines that encode and may name those, templates that name either."""
    if asset.kind != "ingest_pipelines":
        return 2
    return 1 if asset.name.startswith(f"{PRODUCT}-encode-") else 0


def _compare(cluster: Cluster, asset: Asset) -> Change:
    held = _held(cluster, asset)
    if held is None:
        return Change(asset, "missing")
    version = held.get("version")
    diff = difference(asset, held)
    state: State = "differs" if diff else "same"
    # OpenSearch allows no _meta in a pipeline; what tells ours is the version that each of them has.
    ours = version is not None if asset.kind == "ingest_pipelines" else held.get("_meta", {}).get("product") == PRODUCT
    if not ours:
        state = "foreign"
    elif version is not None and version > asset.body["version"]:
        state = "newer"
    return Change(asset, state, version, diff)


def _held(cluster: Cluster, asset: Asset) -> dict[str, Any] | None:
    """The body that the cluster holds under the asset's name, or None."""
    try:
        answer = cluster.request("GET", asset.endpoint)
    except RequestRejected as error:
        if error.status == 404:
            return None
        raise
    if asset.kind == "ingest_pipelines":
        return dict(answer[asset.name])
    (template,) = answer["index_templates"]
    return dict(template["index_template"])


def _require_allowed(changes: Iterable[Change], *, replace: bool, allow_downgrade: bool) -> None:
    """Raise DeploymentConflict if one of them would overwrite what it may not."""
    allowed = {"create": True, "unchanged": True, "replace": replace, "downgrade": allow_downgrade}
    refused = [change for change in changes if not allowed[change.action]]
    if not refused:
        return
    said = [f"{change.asset.file} in the cluster {_ADVICE[change.state]}" for change in refused]
    diffs = {change.asset.file: change.diff for change in refused}
    raise DeploymentConflict("\n".join([*said, "Nothing of this was changed.", *diffs.values()]), diffs=diffs)


def _simulation(asset: Asset) -> tuple[str, dict[str, Any]]:
    """Path and body of the request that has the engine check the asset without keeping it."""
    folder = asset.endpoint.removesuffix(asset.name)
    if asset.kind == "ingest_pipelines":
        # What becomes of the document does not matter: a body that cannot be a pipeline is refused before.
        return f"{folder}_simulate", {"pipeline": asset.body, "docs": [{"_source": {}}]}
    # By name: without, the template would be found to overlap with its own older self.
    return f"{folder}_simulate/{asset.name}", asset.body


def _flat_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Settings as sorted (``index.similarity.x.type``, text) pairs."""
    flat: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = prefix + key
        if isinstance(value, Mapping):
            flat += _flat_settings(value, f"{name}.")
        else:
            full = name if name.startswith("index.") else f"index.{name}"
            if isinstance(value, list):
                flat.append((full, [_setting_text(item) for item in value]))
            else:
                flat.append((full, _setting_text(value)))
    return sorted(flat, key=lambda pair: pair[0])


def _setting_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
