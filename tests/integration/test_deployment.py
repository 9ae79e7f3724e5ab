"""Deployment on real clusters: once, in order, and never over somebody's change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import deepterms as dt
from deepterms.assets import Asset, assets_of
from deepterms.engines import Cluster
from deepterms.errors import DeploymentConflict, RequestRefused, UnsupportedEngine
from deepterms.layouts import LAYOUTS, layout_named


def assets_for(cluster: Any) -> list[Asset]:
    engine = Cluster(cluster).engine
    return assets_of([layout for layout in LAYOUTS if engine.has(layout)])


@pytest.fixture
def bare(cluster: Any) -> Iterator[Any]:
    """A cluster without our resources; afterwards with them again."""
    for asset in reversed(assets_for(cluster)):
        with suppress(RequestRefused):  # not there
            Cluster(cluster).request("DELETE", asset.endpoint)
    yield cluster
    dt.deploy(cluster, replace=True)


def test_a_second_call_changes_nothing(bare: Any) -> None:
    files = tuple(asset.file for asset in assets_for(bare))
    assert dt.deploy(bare) == dt.DeploymentReport(created=files)
    assert dt.deploy(bare) == dt.DeploymentReport(unchanged=files)


def test_a_change_by_somebody_is_refused_with_the_difference_and_nothing_is_written(bare: Any) -> None:
    dt.deploy(bare)
    cluster, changed, missing = Cluster(bare), assets_for(bare)[-1], assets_for(bare)[0]
    cluster.request("PUT", changed.endpoint, body={**changed.body, "priority": 7})
    # A pipeline can go while a template names it; its template's turn to be put would come after the conflict is found.
    cluster.request("DELETE", missing.endpoint)

    with pytest.raises(DeploymentConflict) as refusal:
        dt.deploy(bare)

    assert set(refusal.value.diffs) == {changed.file}
    assert '-  "priority": 7,' in str(refusal.value)
    assert '+  "priority": 500,' in str(refusal.value)
    with pytest.raises(RequestRefused) as absent:
        cluster.request("GET", missing.endpoint)
    assert absent.value.status == 404

    report = dt.deploy(bare, replace=True)
    assert (report.created, report.replaced) == ((missing.file,), (changed.file,))
    assert set(dt.deploy(bare).unchanged) == {asset.file for asset in assets_for(bare)}


def test_a_layout_that_the_engine_lacks_is_refused(elasticsearch: Any) -> None:
    with pytest.raises(UnsupportedEngine, match="does not have the layout 'frequencies'"):
        dt.deploy(elasticsearch, layouts=[layout_named("frequencies")])
