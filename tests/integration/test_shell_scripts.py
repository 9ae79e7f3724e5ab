"""The scripts that need only curl and a POSIX shell: they deploy as Python does, and their backups can be restored."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected
from deepterms.migration.pinning import TAG, pinned
from deepterms.schema.assets import load_asset
from deepterms.schema.layouts import LAYOUTS, Layout
from deepterms.storage import encoder_loading
from deepterms.storage.pivot_cache import PivotCache
from deepterms.storage.pivot_index import name_pivot_index
from tests.clusters.containers import delete_indices
from tests.integration.conftest import deployed_state

SCRIPTS = Path(__file__).parents[2] / "scripts" / "ops"
NAMES = ["backup.sh", "check_deployment.sh", "deploy.sh", "restore.sh", "wait_for_cluster.sh"]


def run(script: str, *arguments: str, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DEEPTERMS_")}
    command = [str(SCRIPTS / script), *arguments]
    done = subprocess.run(
        command, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("script", NAMES)
def test_usage(script: str) -> None:
    assert (SCRIPTS / script).read_text().startswith("#!/bin/sh\n")
    shown = run(script, "--help").stdout
    assert f"  scripts/ops/{script} " in shown
    assert "DEEPTERMS_CA_CERTS" in shown
    assert "set -eu" not in shown
    names = ["one", "two", "three"] if script in ("backup.sh", "restore.sh") else []
    assert "unknown option --nonsense" in run(script, "--nonsense", status=2).stderr
    assert "no cluster given; pass its URL" in run(script, *names, status=2).stderr
    assert "is not the address of a cluster" in run(script, *names, "localhost", status=2).stderr
    if script != "wait_for_cluster.sh":
        assert "no response from the cluster" in run(script, *names, "http://127.0.0.1:9", status=1).stderr


def test_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    files = [str(SCRIPTS / script) for script in NAMES]
    found = subprocess.run(
        [shellcheck, "--external-sources", "--check-sourced", *files], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert found.returncode == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_template_names_the_engines_that_support_it(layout: Layout) -> None:
    """The scripts read them from its description."""
    description = load_asset("index_templates", layout.resource).body["_meta"]["description"]
    said = {
        engine.lower(): tuple(int(part) for part in (*first.split("."), "0")[:2])
        for engine, first in re.findall(r"(OpenSearch|Elasticsearch) ([0-9][0-9.]*) or later", description)
    }
    assert said == dict(layout.engines)


def test_secrets_are_not_in_the_process_list(tmp_path: Path) -> None:
    curl = tmp_path / "curl"
    curl.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/arguments\ncat >>{tmp_path}/options\nprintf "{{}}\\n503"\n')
    curl.chmod(0o755)
    secrets = {"DEEPTERMS_USER": "us er", "DEEPTERMS_PASSWORD": 'p"a\\s$s', "DEEPTERMS_CA_CERTS": "/tmp/c a.pem"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    run("check_deployment.sh", status=1, PATH=path, DEEPTERMS_URL="https://a.example:9200/", **secrets)
    run("check_deployment.sh", status=1, PATH=path, DEEPTERMS_URL="https://a.example:9200/", DEEPTERMS_API_KEY="aBc=")
    arguments, options = (tmp_path / "arguments").read_text(), (tmp_path / "options").read_text().splitlines()
    assert "a.example" not in arguments
    assert arguments.count("--disable --config -") == 2
    assert "insecure" not in arguments
    assert options.count('url = "https://a.example:9200/"') == 2
    assert r'user = "us er:p\"a\\s$s"' in options
    assert 'cacert = "/tmp/c a.pem"' in options
    assert 'header = "Authorization: ApiKey aBc="' in options


def test_python_and_shell_leave_the_same_state(bare: Any, url: str) -> None:
    dt.deploy(bare)
    by_python = deployed_state(bare, delete=True)
    done = run("deploy.sh", url)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"created"}
    assert deployed_state(bare) == by_python
    assert dt.deployment.check(bare) == ()

    # Each completes an interrupted deployment of the other, and neither writes what exists.
    path = next(iter(by_python))
    Cluster(bare).request("DELETE", path)
    assert run("deploy.sh", url).stdout.count("created") == 1
    Cluster(bare).request("DELETE", path)
    assert len(dt.deploy(bare).created) == 1
    done = run("deploy.sh", "--replace", url)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"replaced"}
    assert deployed_state(bare) == by_python


def test_check_and_downgrade(bare: Any, url: str) -> None:
    dt.deploy(bare)
    assert len(run("check_deployment.sh", DEEPTERMS_URL=url).stdout.splitlines()) == len(deployed_state(bare))

    (missing, *_, changed) = [change.asset for change in dt.deployment.plan(bare).changes]
    Cluster(bare).request("DELETE", missing.endpoint)
    Cluster(bare).request("PUT", changed.endpoint, body={**changed.body, "version": 3})
    lines = run("check_deployment.sh", url, status=1).stdout.splitlines()
    found = {file: state for state, file in (re.split(r"  +", line) for line in lines)}
    assert found[missing.file] == "missing"
    assert found[changed.file] == "version 3, expected 1"
    assert sorted(set(found.values())) == ["missing", "version 1", "version 3, expected 1"]

    refused = run("deploy.sh", "--replace", url, status=1)
    assert f"{changed.file} in the cluster is version 3" in refused.stderr
    assert run("check_deployment.sh", url, status=1).stdout.count("missing") == 1
    run("deploy.sh", "--replace", "--allow-downgrade", url)
    run("check_deployment.sh", url)


def test_wait_for_cluster(url: str) -> None:
    assert "yellow" in run("wait_for_cluster.sh", url).stdout
    started = time.monotonic()
    done = run("wait_for_cluster.sh", "--status", "green", "--timeout", "2", "http://127.0.0.1:9", status=1)
    assert "not green within 2 s" in done.stderr
    assert time.monotonic() - started < 30
    assert "not a status" in run("wait_for_cluster.sh", "--status", "blue", url, status=2).stderr
    assert "not a number of seconds" in run("wait_for_cluster.sh", "--timeout", "1m", url, status=2).stderr


@pytest.fixture
def repository(cluster: Any, unique_name: str) -> Iterator[str]:
    name = f"repository-{unique_name}"
    yield name
    for path in (f"/_snapshot/{name}/first", f"/_snapshot/{name}"):
        with suppress(RequestRejected):  # not made
            Cluster(cluster).request("DELETE", path)


@pytest.mark.parametrize("store_vectors", [True, False, "int8"])
def test_backup_and_restore(cluster: Any, url: str, unique_name: str, repository: str, store_vectors: Any) -> None:
    """Next to the index, and after everything is lost: from this release's files, or from the global state."""
    copy = f"{unique_name}.copy"
    encoder = dt.DeepPermutation(16, top_k=6)
    features = np.random.default_rng(0).standard_normal((30, 16)).astype(np.float32)
    dt.deploy(cluster)
    sketch = store_vectors is not False
    index = dt.SurrogateIndex.create(
        cluster,
        unique_name,
        encoder=encoder,
        store_vectors=store_vectors,
        sketch=sketch,
        replicas=0,
    )
    index.add([str(number) for number in range(30)], features)
    index.refresh()
    expected = [index.search(feature, k=5).hits for feature in features[:5]]
    concrete = index.layout.index_name(unique_name)
    own = f"/_ingest/pipeline/{concrete}"
    processors = deployed_state(cluster)[own]["processors"]

    def check_and_drop(name: str) -> None:
        found = dt.SurrogateIndex.open(cluster, name, encoder=encoder)
        assert found.sketch == sketch
        assert [found.search(feature, k=5).hits for feature in features[:5]] == expected
        pipeline = index.layout.index_name(name)
        (settings,) = Cluster(cluster).request("GET", f"/{name}/_settings").values()
        assert settings["settings"]["index"]["default_pipeline"] == pipeline
        assert deployed_state(cluster)[f"/_ingest/pipeline/{pipeline}"]["processors"] == processors
        assert found.add(["new"], features[:1]).failed == ()
        found.drop()

    made = run("backup.sh", "--register", f"/tmp/snapshots/{repository}", unique_name, repository, "first", url)
    assert made.stdout == f"{repository}/first holds {concrete}\n"
    assert "HTTP 400" in run("backup.sh", unique_name, repository, "first", url, status=1).stderr
    assert "no alias nothing" in run("backup.sh", "nothing", repository, "other", url, status=1).stderr
    assert "exists already" in run("restore.sh", unique_name, repository, "first", url, status=1).stderr
    absent = run("restore.sh", "--as", copy, "nothing", repository, "first", url, status=1)
    assert "holds no index nothing" in absent.stderr

    run("restore.sh", "--as", copy, unique_name, repository, "first", url)
    check_and_drop(copy)

    index.drop()
    lost = deployed_state(cluster, delete=True)
    options = ["--global-state"] if store_vectors is False else []
    done = run("restore.sh", *options, unique_name, repository, "first", url)
    assert done.stdout == f"{unique_name} holds 30 documents in {concrete}\n"
    assert deployed_state(cluster).keys() == {*lost, own}
    assert dt.deployment.check(cluster) == ()
    check_and_drop(unique_name)


@pytest.mark.parametrize("own", [True, False], ids=["own pipeline", "layout's pipeline"])
def test_a_backup_during_a_migration(cluster: Any, url: str, unique_name: str, repository: str, own: bool) -> None:
    """A restored pipeline lacks what a migration added, which would send documents to the old name of the index."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=dt.DeepPermutation(16, top_k=6), replicas=0)
    layout, send = index.layout, index.cluster.request
    concrete, copy = layout.index_name(unique_name), f"{unique_name}.copy"
    copied = layout.index_name(copy)
    if not own:  # like an index that was created with curl alone
        send("PUT", f"/{concrete}/_settings", body={"index.default_pipeline": layout.resource})
        send("DELETE", f"/_ingest/pipeline/{concrete}")
        meta = send("GET", f"/{concrete}/_mapping")[concrete]["mappings"]["_meta"]
        meta["deepterms"]["encoder"], meta["deepterms"]["fingerprint"] = {"type": "of_python_only"}, None
        send("PUT", f"/{concrete}/_mapping", body={"_meta": meta})
    with pinned(index.cluster, concrete):
        send("PUT", f"/{concrete}/_block/write")
        run("backup.sh", "--register", f"/tmp/snapshots/{repository}", unique_name, repository, "first", url)
    assert TAG in str(deployed_state(cluster)[f"/_ingest/pipeline/{concrete}"])
    try:
        done = run("restore.sh", "--as", copy, unique_name, repository, "first", url)
        assert f"{copied} rejects writes, as it did at the backup" in done.stderr
        send("PUT", f"/{copied}/_settings", body={"index.blocks.write": None})
        settings = send("GET", f"/{copied}/_settings")[copied]["settings"]["index"]
        assert settings["default_pipeline"] == (copied if own else layout.resource)
        assert (f"/_ingest/pipeline/{copied}" in deployed_state(cluster)) == own
        written = send("PUT", f"/{copy}/_doc/new", body={"terms": {"t1": 1}})
        assert written["_index"] == copied
    finally:
        delete_indices(cluster, copy)


@pytest.mark.parametrize("store_vectors", ["float32", "int8"])
def test_pivots_are_in_the_backup(
    cluster: Any, url: str, unique_name: str, repository: str, store_vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restored under another name after everything is lost, the index opens in a process that lacks its pivots."""
    copy = f"{unique_name}.copy"
    features = np.random.default_rng(0).standard_normal((30, 18)).astype(np.float32)
    encoder = dt.PivotPermutation(dt.Pivots(features[:20]), top_k=3, query_top_k=8)
    dt.deploy(cluster)
    options: dict[str, Any] = {"layout": "codewords", "store_vectors": store_vectors, "replicas": 0}
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, **options)
    native = store_vectors == "int8" and index.cluster.engine.name == "elasticsearch"
    assert index.compare == ("native" if native else "script")
    index.add([str(number) for number in range(30)], features)
    index.refresh()
    expected = [index.search(feature, k=5).hits for feature in features[:5]]
    before = deployed_state(cluster)
    made = run("backup.sh", "--register", f"/tmp/snapshots/{repository}", unique_name, repository, "first", url)
    assert made.stdout.count("deepterms-pivots-v1-") == 1
    assert made.stderr == ""
    index.drop()
    run("restore.sh", "--as", copy, unique_name, repository, "first", url)

    monkeypatch.setattr(encoder_loading, "_IN_USE", {})
    monkeypatch.setattr(PivotCache, "_held", {})
    monkeypatch.setenv("DEEPTERMS_CACHE", "/dev/null/none")
    again = dt.SurrogateIndex.open(cluster, copy)
    assert again.encoder is not encoder
    assert again.encoder == encoder
    assert [again.search(feature, k=5).hits for feature in features[:5]] == expected
    assert again.add(["new"], features[:1]).failed == ()
    own, restored = (f"/_ingest/pipeline/{index.layout.index_name(name)}" for name in (unique_name, copy))
    assert deployed_state(cluster)[restored]["processors"] == before[own]["processors"]
    Cluster(cluster).request("DELETE", f"/{name_pivot_index(next(iter(again.concrete)), encoder.pivots.checksum)}")
    second = run("backup.sh", copy, repository, "second", url)
    assert "are neither in the cluster nor in this snapshot" in second.stderr
    Cluster(cluster).request("DELETE", f"/_snapshot/{repository}/second")
    again.drop()
