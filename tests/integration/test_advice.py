"""The probe on real clusters: it measures, and leaves nothing behind, also where it is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepterms.advice import advise, probe
from deepterms.advice.model import Workload
from deepterms.advice.probe import PREFIX
from deepterms.cluster.cluster import Cluster
from deepterms.index import SurrogateIndex
from tests.integration.test_command_line import deepterms


def left(client: Any) -> list[str]:
    return sorted(Cluster(client).request("GET", f"/deepterms-*-{PREFIX}-*"))


def test_a_short_probe_measures_and_leaves_nothing(cluster: Any) -> None:
    figures = probe(cluster, dimensions=64, documents=1_500, seconds=20)
    assert left(cluster) == []
    assert figures.dimensions == 64
    assert figures.cores >= 1
    assert figures.fixed_ms + figures.clause_us + figures.posting_ns > 0
    assert min(figures.fixed_ms, figures.clause_us, figures.posting_ns, figures.float32_us, figures.int8_us) >= 0
    assert figures.int8_docs_per_second > 0
    assert 0 < figures.posting_bytes < 50
    assert 0 <= figures.document_bytes < 2_000
    assert figures.machine.endswith((" 500 documents", " 1,000 documents", " 1,500 documents"))  # fewer if it is slow
    assert np.isfinite(advise(Workload(1_000_000, 64), figures).p50_ms)


def test_a_probe_that_fails_leaves_nothing(opensearch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    search = SurrogateIndex.search

    def cut(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return search(*args, **options)

    monkeypatch.setattr(SurrogateIndex, "search", cut)
    with pytest.raises(KeyboardInterrupt):
        probe(opensearch, dimensions=16, documents=300, seconds=20)
    assert calls == 4
    assert left(opensearch) == []


def test_a_terminated_command_leaves_nothing(opensearch: Any, tmp_path: Path) -> None:
    (host,) = opensearch.transport.hosts
    command = [sys.executable, "-m", "deepterms", "advise", "--documents", "1000000", "--dimensions", "256"]
    environment = {**os.environ, "DEEPTERMS_URL": f"http://{host['host']}:{host['port']}", "PYTHONWARNINGS": ""}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while not left(opensearch) and time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.05)
        assert left(opensearch)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert left(opensearch) == []


def test_what_a_killed_probe_left_is_deleted_by_the_next(opensearch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = f"deepterms-codewords-v1-{PREFIX}-int8-00000000-000001"
    Cluster(opensearch).request("PUT", f"/{forgotten}")
    probe(opensearch, dimensions=16, documents=200, seconds=5)
    assert left(opensearch) == [forgotten]  # another probe may be running: it is too young
    monkeypatch.setattr(sys.modules["deepterms.advice.probe"], "FORGOTTEN_SECONDS", -1)
    probe(opensearch, dimensions=16, documents=200, seconds=5)
    assert left(opensearch) == []


def test_the_command_line_advises(url: str, tmp_path: Path) -> None:
    asked = ("advise", "--documents", "1000000", "--dimensions", "64", "--seconds", "5", "--json")
    done = deepterms(*asked, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["recall"] >= 0.95
    assert "measured with" in found["figures"]["machine"]


def test_without_a_probe_no_cluster_is_needed(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    done = deepterms("advise", "--documents", "1000000000", "--no-probe", url=nowhere, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stored figures" in done.stdout
    assert "extrapolated" in done.stdout
    refused = deepterms(
        "advise", "--documents", "10", "--recall", "1", "--no-probe", url="http://127.0.0.1:9", cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "recall is 1" in refused.stderr
