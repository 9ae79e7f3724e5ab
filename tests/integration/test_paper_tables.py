"""`deepterms paper table1` on real clusters, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deepterms.cluster.cluster import Cluster
from tests.integration.test_command_line import deepterms

SMALL = ("--documents", "200", "--dimensions", "64", "--top-k", "5", "--top-k", "20", "--queries", "4", "--hits", "10")


def test_table1_is_loaded_then_measured_then_dropped(cluster: Any, url: str, tmp_path: Path) -> None:
    ours = "/deepterms-*-v1-bench-200-d64-s0-*"
    done = deepterms("paper", "table1", *SMALL, "--load-only", url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loaded 200 documents for K = 5, 20" in done.stderr
    assert len(Cluster(cluster).request("GET", ours)) == 2

    reports = ("--output", "table1.json", "--output", "table1.md")
    done = deepterms("paper", "table1", *SMALL, *reports, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loaded" not in done.stderr  # the second run measures the existing indices
    made = json.loads((tmp_path / "table1.json").read_text(encoding="utf-8"))
    assert (made["kind"], made["documents"], made["seed"]) == ("table1", 200, 0)
    assert [row["top_k"] for row in made["rows"]] == [5, 20]
    assert made["engine"].startswith(str(Cluster(cluster).engine))
    assert made["command"].startswith("deepterms paper table1 --documents 200 --dimensions 64 --top-k 5 --top-k 20 ")
    assert url.partition("//")[2] not in json.dumps(made)
    assert "posting" in done.stdout
    assert f"{made['rows'][1]['postings']:,.0f}" in (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert Cluster(cluster).request("GET", ours) == {}
