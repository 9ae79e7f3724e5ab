"""Tests of deployment on real clusters: idempotent, in order, resumable, and never overwriting foreign changes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms import deployment
from deepterms.cluster.cluster import Cluster
from deepterms.deployment import Change, DeploymentPlan
from deepterms.errors import DeploymentConflict, RequestRejected, UnsupportedEngine
from deepterms.schema.assets import Asset, list_assets
from deepterms.schema.layouts import LAYOUTS, find_layout
from tests.integration.conftest import deployed_state

# This layout has every kind of step, and runs on both engines.
WORDS = [find_layout("words")]
FOREIGN = {"index_patterns": ["somebody-*"], "priority": 7, "template": {}}


def assets_for(cluster: Any) -> list[Asset]:
    engine = Cluster(cluster).engine
    return list_assets([layout for layout in LAYOUTS if layout.runs_on(engine)])


def first_of(cluster: Any, kind: str) -> Asset:
    return next(asset for asset in assets_for(cluster) if asset.kind == kind)


def states(cluster: Any) -> dict[str, str]:
    return {change.asset.file: change.state for change in deployment.plan(cluster).changes}


def test_a_second_call_changes_nothing(bare: Any) -> None:
    files = tuple(asset.file for asset in assets_for(bare))
    assert dt.deploy(bare) == dt.DeploymentReport(created=files)
    assert dt.deploy(bare) == dt.DeploymentReport(unchanged=files)
    assert deployment.check(bare) == ()


def test_a_plan_lists_what_is_missing_and_writes_nothing(bare: Any) -> None:
    planned = deployment.plan(bare)
    assert {change.action for change in planned.changes} == {"create"}
    assert str(planned).splitlines()[0] == f"create    {assets_for(bare)[0].file}"
    deployment.rehearse(planned)
    assert deployed_state(bare) == {}
    assert set(states(bare).values()) == {"missing"}


def test_a_changed_resource_is_reported_and_kept(bare: Any) -> None:
    dt.deploy(bare)
    cluster, changed, missing = Cluster(bare), assets_for(bare)[-1], assets_for(bare)[0]
    cluster.request("PUT", changed.endpoint, body={**changed.body, "priority": 7})
    # A pipeline can be missing although a template uses it; the template would be deployed after the conflict is found.
    cluster.request("DELETE", missing.endpoint)

    with pytest.raises(DeploymentConflict) as raised:
        dt.deploy(bare)

    assert set(raised.value.diffs) == {changed.file}
    assert "--replace" in str(raised.value)
    assert '-  "priority": 7,' in str(raised.value)
    assert '+  "priority": 500,' in str(raised.value)
    assert states(bare)[missing.file] == "missing"
    assert [change.state for change in deployment.check(bare)] == ["missing", "differs"]

    report = dt.deploy(bare, replace=True)
    assert (report.created, report.replaced) == ((missing.file,), (changed.file,))
    assert set(dt.deploy(bare).unchanged) == {asset.file for asset in assets_for(bare)}


@pytest.mark.parametrize("kind", ["index_templates", "ingest_pipelines"])
def test_a_later_release_is_overwritten_only_if_allowed(bare: Any, kind: str) -> None:
    dt.deploy(bare)
    asset = first_of(bare, kind)
    Cluster(bare).request("PUT", asset.endpoint, body={**asset.body, "version": 4})
    (change,) = deployment.check(bare)
    assert (change.state, change.action, change.version) == ("newer", "downgrade", 4)
    with pytest.raises(DeploymentConflict, match=r"is of a later release; upgrade"):
        dt.deploy(bare, replace=True)
    assert deployment.check(bare)[0].version == 4
    assert dt.deploy(bare, allow_downgrade=True).replaced == (asset.file,)
    assert deployment.check(bare) == ()


@pytest.mark.parametrize(
    ("kind", "body"),
    [("index_templates", {**FOREIGN, "version": 9}), ("ingest_pipelines", {"description": "mine", "processors": []})],
)
def test_a_foreign_resource_with_our_name_is_reported(bare: Any, kind: str, body: dict[str, Any]) -> None:
    asset = first_of(bare, kind)
    Cluster(bare).request("PUT", asset.endpoint, body=body)
    with pytest.raises(DeploymentConflict, match=r"was not made by deepterms"):
        dt.deploy(bare, allow_downgrade=True)
    assert list(deployed_state(bare)) == [asset.endpoint]
    assert dt.deploy(bare, replace=True).replaced == (asset.file,)
    assert deployment.check(bare) == ()


def test_other_resources_are_kept(bare: Any, unique_name: str) -> None:
    cluster = Cluster(bare)
    others = {
        f"/_index_template/{unique_name}": FOREIGN,
        f"/_ingest/pipeline/{unique_name}": {"processors": [{"set": {"field": "a", "value": 1}}]},
    }
    try:
        for path, body in others.items():
            cluster.request("PUT", path, body=body)
        before = [cluster.request("GET", path) for path in others]
        dt.deploy(bare, replace=True, allow_downgrade=True)
        assert [cluster.request("GET", path) for path in others] == before
    finally:
        for path in others:
            cluster.request("DELETE", path)


def _broken(asset: Asset) -> Asset:
    body = dict(asset.body)
    if asset.kind == "ingest_pipelines":
        return Asset(asset.kind, asset.name, {**body, "processors": [{"script": {"source": "not painless"}}]})
    template = dict(body["template"])
    template["settings"] = {"index": {"similarity": {"x": {"type": "scripted", "script": {"source": "return wight;"}}}}}
    return Asset(asset.kind, asset.name, {**body, "template": template})


@pytest.mark.parametrize("kind", ["index_templates", "ingest_pipelines"])
@pytest.mark.parametrize("there", [False, True])
def test_a_rejected_body_is_found_before_any_write(bare: Any, kind: str, there: bool) -> None:
    if there:
        dt.deploy(bare)
    planned, bad = deployment.plan(bare), first_of(bare, kind)
    before = deployed_state(bare)
    changes = [
        Change(_broken(change.asset), "differs" if there else "missing") if change.asset.name == bad.name else change
        for change in planned.changes
        if change.asset.kind == kind or change.asset.name != bad.name
    ]
    with pytest.raises(RequestRejected, match=rf"{bad.file} cannot be deployed, so nothing was changed") as raised:
        deployment.apply(DeploymentPlan(planned.cluster, tuple(changes)), replace=True)
    assert raised.value.status == 400
    assert deployed_state(bare) == before


def test_a_change_after_the_plan_is_not_overwritten(bare: Any) -> None:
    planned = deployment.plan(bare)
    last = planned.changes[-1].asset
    Cluster(bare).request("PUT", last.endpoint, body={**last.body, "priority": 7})
    with pytest.raises(DeploymentConflict, match=r'-  "priority": 7,'):
        deployment.apply(planned)
    assert states(bare)[last.file] == "differs"
    # What another deployment wrote meanwhile is accepted.
    assert deployment.apply(planned, replace=True).replaced == (last.file,)
    again = deployment.apply(planned)
    assert (again.created, again.replaced) == ((), ())


def test_an_unsupported_layout_is_rejected(elasticsearch: Any) -> None:
    with pytest.raises(UnsupportedEngine, match="does not have the layout 'frequencies'"):
        dt.deploy(elasticsearch, layouts=[find_layout("frequencies")])


def _client(library: str, url: str) -> Any:
    return OpenSearch(url, timeout=60) if library == "opensearch" else Elasticsearch(url, request_timeout=60)


def _deploy_and_die(library: str, url: str, requests: int | None) -> None:
    """Deploy in a separate process, which kills itself after a number of requests; None for never."""
    sent = 0
    request = Cluster.request

    def counted(self: Cluster, *arguments: Any, **options: Any) -> Any:
        nonlocal sent
        if sent == requests:
            os.kill(os.getpid(), signal.SIGKILL)
        sent += 1
        return request(self, *arguments, **options)

    Cluster.request = counted  # type: ignore[method-assign]
    dt.deploy(_client(library, url), layouts=WORDS)


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """A process pool that starts in milliseconds, forked from one without threads that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    yield context


def _run(processes: Any, cluster: Any, url: str, *, requests: int | None, count: int = 1) -> list[int]:
    """Run concurrent deployments, and return their exit codes."""
    library = Cluster(cluster).engine.name
    running = [processes.Process(target=_deploy_and_die, args=(library, url, requests)) for _ in range(count)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=120)
    codes = [process.exitcode for process in running]
    for process in running:
        process.close()
    return codes


def test_a_deployment_killed_at_any_step_is_resumed(bare: Any, url: str, processes: Any) -> None:
    """Killed (-9) between any two requests and applied again, it gives the same state as without the kill."""
    dt.deploy(bare, layouts=WORDS)
    whole = deployed_state(bare)
    seen = set()
    for requests in range(1000):
        deployed_state(bare, delete=True)
        (code,) = _run(processes, bare, url, requests=requests)
        cut = deployed_state(bare)
        seen.add(len(cut))
        # No resource refers to a missing one, and those that exist are complete.
        assert cut.items() <= whole.items()
        for path, body in cut.items():
            named = body.get("template", {}).get("settings", {}).get("index", {}).get("default_pipeline")
            named = (
                [named]
                if named
                else [step["pipeline"]["name"] for step in body.get("processors", ()) if "pipeline" in step]
            )
            assert all(f"/_ingest/pipeline/{name}" in cut for name in named), (path, named)
        dt.deploy(bare, layouts=WORDS)
        assert deployed_state(bare) == whole
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert requests > 3 * len(whole)  # each is read, simulated and written
    assert seen == set(range(len(whole) + 1))


def test_concurrent_deployments(bare: Any, url: str, processes: Any) -> None:
    dt.deploy(bare, layouts=WORDS)
    whole = deployed_state(bare, delete=True)
    assert _run(processes, bare, url, requests=None, count=4) == [0, 0, 0, 0]
    assert deployed_state(bare, delete=True) == whole

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: dt.deploy(bare, layouts=WORDS), range(4)))
    assert deployed_state(bare) == whole
    assert all(len(report.created + report.unchanged) == len(whole) for report in reports)
    assert not any(report.replaced for report in reports)
