"""The commands in docs/serve.md run unchanged, except for addresses, on a server that its own command starts."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

import deepterms as dt
from deepterms.web import Limits, create_app
from deepterms.web.service import MAX_CODEWORDS_SHOWN
from tests.docs.test_readme import shell
from tests.integration.test_serve import serving
from tests.unit.features.odd_files import photograph
from tests.unit.web.conftest import HERE, GridExtractor

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "serve.md").read_text()
FILL, ASK = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_commands_run(url: str, folder: Path) -> None:
    for year in ("2018", "2019"):  # one of the commands filters by it
        (folder / "photos" / year).mkdir()
        Image.fromarray(photograph(int(year))).save(folder / "photos" / year / "a.jpg")
    index, serve = FILL.splitlines()
    done = shell(index, url, folder)
    assert done.returncode == 0, done.stderr
    _, command, *arguments = shlex.split(serve, comments=True)
    assert command == "serve"
    with serving(*arguments, "--port", "0", url=url, cwd=folder) as address:
        assert "http://localhost:8000" in ASK
        done = shell(ASK.replace("http://localhost:8000", address), url, folder)
    assert done.returncode == 0, done.stderr
    by_image, by_id, why = parse_all(done.stdout)
    assert by_image["hits"][0]["id"] == "000100.jpg"
    assert len(by_image["hits"]) == 3
    assert {hit["id"] for hit in by_id["hits"]} <= {"2018/a.jpg", "2019/a.jpg"}
    assert why["agrees"]


def parse_all(printed: str) -> list[Any]:
    """Parse concatenated JSON objects."""
    found, place = [], 0
    while place < len(printed):
        answer, place = json.JSONDecoder().raw_decode(printed, place)
        found.append(answer)
    return found


def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"index": dt.MemoryIndex(dt.DeepPermutation(48, top_k=20)), "extractor": GridExtractor()}
    exec(compile(PYTHON, "docs/serve.md", "exec"), names)
    with TestClient(names["app"], base_url=HERE) as client:
        assert client.get("/v1/status").json()["images"]


def test_limits_match_the_code() -> None:
    limits = Limits()
    for text in (
        f"{limits.image_bytes >> 20} MB, {limits.pixels // 10**6} megapixels",
        f"{limits.decoding_bytes >> 30} GB of memory, {limits.decoding_seconds:g} s",
        f"{limits.json_bytes >> 20} MB; {limits.line_bytes >> 20} MB per document, or per line of a stream",
        f"{limits.seconds:g} s; {limits.seconds:g} s for the body, or a line of a stream, to arrive",
        f"{limits.threads}, and {limits.waiting} in the queue",
        f"| concurrent requests per address, `/healthz` apart | {limits.per_client} |",
    ):
        assert text in PAGE, text


def test_number_of_codewords_shown_matches_the_code() -> None:
    assert f"lists the {MAX_CODEWORDS_SHOWN} codewords" in PAGE


def test_every_image_and_route_exists() -> None:
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE):
        assert (TOP / "docs" / name).exists(), name
    paths = create_app(dt.MemoryIndex(dt.DeepPermutation(4, top_k=3))).openapi()["paths"]
    for path in paths.keys() - {"/v1/session"}:
        assert path.rpartition("/")[2] in PAGE, path
