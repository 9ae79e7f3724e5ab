"""`deepterms serve` as users run it: where it listens, what it prints and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import deepterms as dt
from tests.integration.test_command_line import deepterms
from tests.unit.features.odd_files import photograph

TOKEN = "a token of sufficient length"


@pytest.fixture
def url(opensearch: Any) -> str:
    (host,) = opensearch.transport.hosts
    return f"http://{host['host']}:{host['port']}"


@pytest.fixture
def served(opensearch: Any, url: str, unique_name: str, tmp_path: Path) -> str:
    """The name of an index of six photos."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(6):
        folder = "a" if number % 2 else "."
        Image.fromarray(photograph(number)).save(tmp_path / "photos" / folder / f"{number:02}.png")
    arguments = ("--sizes", "64", "--replicas", "0")
    done = deepterms("index", unique_name, tmp_path / "photos", *arguments, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return unique_name


@contextmanager
def serving(*arguments: str | Path, url: str, cwd: Path, token: str = "") -> Iterator[str]:
    """Run `deepterms serve` and yield the URL that it prints."""
    environment = {**os.environ, "DEEPTERMS_URL": url, "DEEPTERMS_SERVE_TOKEN": token, "PYTHONWARNINGS": ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "deepterms", "serve", *map(str, arguments)],
        cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        printed = ""
        while "openapi.json" not in printed:
            line = process.stderr.readline()
            assert line, printed
            printed += line
        found = re.search(r"(http://\S+)/ ", printed)
        assert found, printed
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(url: str, *, body: bytes | None = None, **headers: str) -> Any:
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_photo_is_found_over_http(served: str, url: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    with serving(served, "--photos", photos, "--port", "0", url=url, cwd=tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        content = (photos / "a" / "03.png").read_bytes()
        found = ask(f"{address}/v1/search/image?k=3", body=content, Content_Type="image/png")
        assert found["hits"][0]["id"] == "a/03.png"
        assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
        with urllib.request.urlopen(address + found["hits"][0]["thumbnail"], timeout=60) as thumbnail:
            assert thumbnail.headers["Content-Type"] == "image/jpeg"
        # Subfolders become a field to filter by.
        facets = ask(f"{address}/v1/facets")["facets"]
        assert [(facet["field"], facet["values"]) for facet in facets] == [("folder", [["a", 3]])]


def test_other_machines_need_a_token(served: str, url: str, tmp_path: Path) -> None:
    rejected = deepterms("serve", served, "--host", "0.0.0.0", url=url, cwd=tmp_path)
    assert rejected.returncode == 1
    assert "a token is required" in rejected.stderr
    with serving(served, "--host", "0.0.0.0", "--port", "0", url=url, cwd=tmp_path, token=TOKEN) as address:
        with pytest.raises(urllib.error.HTTPError) as denied:
            ask(f"{address}/v1/status")
        assert denied.value.code == 401
        denied.value.close()
        assert ask(f"{address}/v1/status", Authorization=f"Bearer {TOKEN}")["documents"] == 6


def test_failures_are_explained(opensearch: Any, url: str, unique_name: str, tmp_path: Path) -> None:
    missing = deepterms("serve", unique_name, url=url, cwd=tmp_path)
    assert missing.returncode == 1
    assert "no index" in missing.stderr
    dt.deploy(opensearch)
    dt.SurrogateIndex.create(opensearch, unique_name, encoder=dt.DeepPermutation(8, top_k=4), replicas=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = deepterms("serve", unique_name, "--port", port, url=url, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "does not record which extractor made its descriptors" in refused.stderr
