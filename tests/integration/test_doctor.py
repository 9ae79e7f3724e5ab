"""Tests of the doctor on real clusters: green if all is well, and one line of advice per problem."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.doctor import examine
from deepterms.doctor.findings import Finding
from deepterms.errors import IndexNotFound, RequestRejected
from deepterms.migration import migrate
from deepterms.schema.layouts import LAYOUTS


@pytest.fixture
def index(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    made = dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(8, top_k=4), replicas=0)
    made.add(["a"], np.ones((1, 8)))
    made.refresh()
    return made


def of(found: tuple[Finding, ...], subject: str) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


def test_a_healthy_cluster_is_green(cluster: Any, index: dt.SurrogateIndex) -> None:
    before = set(Cluster(cluster).request("GET", "/deepterms-*/_alias"))
    found = examine(cluster, index.name)
    # Heap and disk depend on the machine, so they are not asserted.
    assert {finding.level for finding in found if finding.subject not in ("heap", "disk")} == {"green"}
    engine = Cluster(cluster).engine
    assert found[0].text.startswith(str(engine))
    probes = [finding.text for finding in found if finding.subject.startswith("probe ")]
    scores = [4 if layout.name == "codewords" else 30 for layout in LAYOUTS if layout.runs_on(engine)]
    assert probes == [f"found with score {score} and cosine 1" for score in scores]
    assert [finding.text for finding in of(found, index.name)][1] == "refreshed every 1s, the default"
    assert "1 document," in of(found, index.name)[2].text
    assert set(Cluster(cluster).request("GET", "/deepterms-*/_alias")) == before
    with pytest.raises(IndexNotFound):
        examine(cluster, "never-there")


def test_problems_are_red_or_yellow_with_advice(cluster: Any, index: dt.SurrogateIndex) -> None:
    own = Cluster(cluster)
    template = f"/_index_template/{index.layout.resource}"
    new = migrate(cluster, index.name, shards=2).new
    own.request("PUT", f"/{new}/_settings", body={"index": {"refresh_interval": "-1", "number_of_replicas": 1}})
    own.request("PUT", f"/{new}/_block/write")
    own.request("DELETE", template)
    try:
        found = examine(cluster, index.name)
    finally:
        dt.deploy(cluster)
    (resources,) = of(found, "templates")
    assert (resources.level, resources.text) == ("red", f"missing: {index.layout.resource}")
    (probe,) = of(found, f"probe {index.layout.name}")
    assert (probe.level, "is not in the cluster" in probe.text) == ("red", True)
    health, block, refresh, segments, kept, *_ = of(found, index.name)
    assert (health.level, block.level, refresh.level, kept.level) == ("yellow", "yellow", "yellow", "green")
    assert (segments.level, index.layout.index_name(index.name) in kept.text) == ("green", True)
    assert all(bool(finding.advice) == (finding.level != "green") for finding in found)


def test_wrong_scores_of_a_layout_are_detected(cluster: Any, index: dt.SurrogateIndex) -> None:
    """The template's similarity ignores query weights, which causes wrong scores but no error."""
    own, name = Cluster(cluster), "deepterms-words-v1"
    (held,) = own.request("GET", f"/_index_template/{name}")["index_templates"]
    body = held["index_template"]
    del body["template"]["settings"]["index"]["similarity"]["term_frequency"]["weight_script"]
    kept = {key: body[key] for key in ("index_patterns", "priority", "version", "_meta", "template")}
    own.request("PUT", f"/_index_template/{name}", body=kept)
    try:
        found = examine(cluster, index.name)
    finally:
        dt.deploy(cluster, replace=True)
    (resources,), (probe,) = of(found, "templates"), of(found, "probe words")
    assert (resources.level, resources.text) == ("yellow", f"differs: {name}")
    assert probe.level == "red"
    assert "expected 30 and 1 for both" in probe.text


def test_missing_privileges_give_a_yellow_line(
    cluster: Any, index: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Cluster.request

    def limited(self: Cluster, method: str, path: str, **options: Any) -> Any:
        if path.startswith(("/_nodes", "/_cluster", "/_index_template", "/_ingest")):
            raise RequestRejected("no permissions", status=403)
        return real(self, method, path, **options)

    monkeypatch.setattr(Cluster, "request", limited)
    found = examine(cluster, index.name)
    # What was measured for searches is part of the index's own metadata.
    assert {finding.level for finding in found[1:] if "recall" not in finding.text} == {"yellow"}
    assert [finding.text for finding in of(found, "nodes")] == ["not checked: this user lacks the privilege"]


def test_the_doctor_command(index: dt.SurrogateIndex, url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deepterms", "doctor", index.name]
    environment = {**os.environ, "DEEPTERMS_URL": url, "COLUMNS": "150"}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*command, "--json"], timeout=120, check=False, **options)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"level", "subject", "text", "advice"} == set(findings[0])
    assert done.returncode == int(any(finding["level"] == "red" for finding in findings))
    done = subprocess.run([*command[:-1], "never-there"], timeout=120, check=False, **options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no index 'never-there'")
