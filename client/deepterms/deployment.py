"""Deployment: the templates and pipelines of this release into a cluster, once, and never over somebody's change."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deepterms.assets import Asset, assets_of
from deepterms.engines import Cluster
from deepterms.errors import DeploymentConflict, RequestRefused, UnsupportedEngine
from deepterms.layouts import LAYOUTS, Layout

__all__ = ["DeploymentReport", "deploy"]

# What engines add to a body on their own.
_STAMPS = frozenset({"created_date", "created_date_millis", "modified_date", "modified_date_millis"})


@dataclass(frozen=True)
class DeploymentReport:
    """What a deployment did: names of pipelines and templates, as ``folder/name.json``."""

    created: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def deploy(client: Any, *, layouts: Iterable[Layout] | None = None, replace: bool = False) -> DeploymentReport:
    """Put the pipelines, then the templates, of every layout that the engine has. A second call changes nothing.

    Nothing is written unless everything can be: a resource that differs from this release's is found first.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        layouts: only these; default: all that the engine has.
        replace: overwrite resources that differ.

    Raises:
        DeploymentConflict: a resource differs and `replace` is off; carries the differences.
        UnsupportedEngine: the engine lacks a layout asked for, or has none.
        ClusterUnreachable, RequestRefused: the cluster did not answer, or refused.
    """
    cluster = Cluster(client)
    chosen = [layout for layout in LAYOUTS if cluster.engine.has(layout)] if layouts is None else list(layouts)
    for layout in chosen:
        cluster.engine.require(layout)
    if not chosen:
        raise UnsupportedEngine(f"{cluster.engine} has none of the layouts")
    compared = [(asset, _held(cluster, asset)) for asset in assets_of(chosen)]
    diffs = {asset: difference(asset, body) for asset, body in compared if body is not None}
    differing = [asset for asset, diff in diffs.items() if diff]
    if differing and not replace:
        raise DeploymentConflict({asset.file: diffs[asset] for asset in differing})
    created = [asset for asset, body in compared if body is None]
    for asset, _ in compared:
        if asset in created or asset in differing:
            cluster.request("PUT", asset.endpoint, body=asset.body)
    return DeploymentReport(
        created=tuple(asset.file for asset in created),
        replaced=tuple(asset.file for asset in differing),
        unchanged=tuple(asset.file for asset, diff in diffs.items() if not diff),
    )


def difference(asset: Asset, held: Mapping[str, Any]) -> str:
    """A unified diff from what the cluster holds to what this release would put; empty if they mean the same."""
    theirs, ours = (_lines(normalised(asset.kind, body)) for body in (held, asset.body))
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


def _held(cluster: Cluster, asset: Asset) -> dict[str, Any] | None:
    """The body that the cluster holds under the asset's name, or None."""
    try:
        answer = cluster.request("GET", asset.endpoint)
    except RequestRefused as error:
        if error.status == 404:
            return None
        raise
    if asset.kind == "ingest_pipelines":
        return dict(answer[asset.name])
    (template,) = answer["index_templates"]
    return dict(template["index_template"])


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


def _lines(body: Mapping[str, Any]) -> list[str]:
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
