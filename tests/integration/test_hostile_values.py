"""Tests of names, ids, metadata and filters that could be injected into a path, a script or a shell command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import InvalidInput

TOP = Path(__file__).parents[2]
ENCODER = dt.DeepPermutation(16, top_k=6)

# As index names, these are rejected before a request is sent: the URL would refer to more than one index.
NOT_NAMES = [
    "../_all",
    "..",
    ".",
    "_all",
    "*",
    "a*",
    "a,b",
    "a?b=c",
    "a#b",
    "a%2f..%2f_all",
    "a\nb",
    'x"}',
    "-a",
    "",
    "<a>",
]
# These are unusual, but valid.
ODD_NAMES = ["größe", "a&b=c", "a+b", "$(touch${ifs}pwned)", "a;b'c", "a~b@c!(d)"]

VALUES = [
    "../_all",
    "a?b=c",
    '"}',
    '"}}\n{"delete":{"_id":"bystander"}}\n',
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    "return 1; //",
    "{{ctx.id}}",
    "*",
    "a\\",
    "\u2028",
    "\x00\x1b[2J",
    "%s%n {0} ${x}",
    "<script>alert(1)</script>",
    "[bold red]x[/]",
]
FEATURES = np.random.default_rng(5).standard_normal((len(VALUES) + 1, 16)).astype(np.float32)


@pytest.fixture
def bystander(cluster: Any, unique_name: str) -> Iterator[dt.SurrogateIndex]:
    """An index with one document, which no test may affect."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    index.add(["bystander"], FEATURES[-1:])
    index.refresh()
    yield index
    index.refresh()
    assert index.count() == 1
    index.drop()


def test_a_name_is_one_index_or_rejected(cluster: Any, bystander: dt.SurrogateIndex) -> None:
    for name in NOT_NAMES:
        with pytest.raises(InvalidInput):
            dt.SurrogateIndex.create(cluster, name, encoder=ENCODER)
            pytest.fail(f"{name!r} was taken for a name")
        with pytest.raises(InvalidInput):
            dt.SurrogateIndex.open(cluster, name)
            pytest.fail(f"{name!r} was taken for a name")
    for name in ODD_NAMES:
        index = dt.SurrogateIndex.create(cluster, name, encoder=ENCODER, replicas=0)
        try:
            assert index.add(["a"], FEATURES[:1]).succeeded == 1
            same = dt.SurrogateIndex.open(cluster, name)
            same.refresh()
            assert same.search(FEATURES[0]).ids == ["a"], name
        finally:
            index.drop()
        assert not Cluster(cluster).request("HEAD", f"/{quote(name)}"), name


def test_values_are_returned_unchanged_and_affect_nothing(cluster: Any, bystander: dt.SurrogateIndex) -> None:
    memory = dt.MemoryIndex(ENCODER)
    index = dt.SurrogateIndex.create(cluster, f"{bystander.name}-values", encoder=ENCODER, replicas=0)
    metadata = [{"value": value, "list": [value], "object": {"deep": value}} for value in VALUES]
    for each in (memory, index):
        assert each.add(VALUES, FEATURES[:-1], metadata).failed == ()
        each.refresh()
    assert index.count() == len(VALUES)
    for position, value in enumerate(VALUES):
        document = index.get(value)
        assert document is not None
        assert document.id == value
        assert document.metadata == metadata[position]
        for filter in (
            {"term": {"metadata.value": value}},
            {"term": {"metadata.object.deep": value}},
            {"prefix": {"metadata.value": value}},
            {"ids": {"values": [value]}},
            {"bool": {"must_not": {"terms": {"metadata.value": [value]}}}},
        ):
            assert index.count(filter=filter) == memory.count(filter=filter), filter
            found = index.search(FEATURES[0], filter=filter, k=20)
            assert found.ids == memory.search(FEATURES[0], filter=filter, k=20).ids, filter
        near = index.search_by_id(value, k=3)
        assert near.ids == memory.search_by_id(value, k=3).ids
    for gone, value in enumerate(VALUES, start=1):
        assert index.delete([value]).failed == ()
        index.refresh()
        assert index.count() == len(VALUES) - gone


def test_odd_metadata_keys_affect_no_other_document(cluster: Any, bystander: dt.SurrogateIndex) -> None:
    index = dt.SurrogateIndex.create(cluster, f"{bystander.name}-keys", encoder=ENCODER, replicas=0)
    keys = ["a?b=c", '"}', "$(x)", "..", "", " ", "a..b", "_id", "__proto__", "terms"]
    ids = [f"id-{number}" for number in range(len(keys))]
    report = index.add(ids, FEATURES[: len(keys)], [{key: "x"} for key in keys])
    index.refresh()
    assert report.succeeded + len(report.failed) == len(keys)
    assert report.succeeded == index.count() >= len(keys) - 4
    for failure in report.failed:  # the engine rejects single documents whose keys are paths without names
        assert keys[ids.index(failure.id)] in ("..", "", " ", "a..b"), failure
    (found,) = index.search(FEATURES[1], k=1)
    assert found.metadata == {'"}': "x"}


def test_command_line_and_scripts_execute_no_value(
    cluster: Any, bystander: dt.SurrogateIndex, url: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "DEEPTERMS_URL": url, "PYTHONWARNINGS": "", "COLUMNS": "200"}
    deepterms = [sys.executable, "-m", "deepterms"]
    for value in ("$(touch pwned)", "../_all"):
        commands = [
            [*deepterms, "search", value, "--id", "bystander"],
            [*deepterms, "search", bystander.name, "--id", value],
            [str(TOP / "scripts" / "ops" / "backup.sh"), value, "repository", "snapshot"],
        ]
        for command in commands:
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode in (1, 2), command
            assert "Traceback" not in done.stderr
            assert done.stderr.strip()
    assert list(tmp_path.iterdir()) == []
