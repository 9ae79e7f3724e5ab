"""README.md, and the curl recipe that it links: their blocks run unchanged; only the cluster's address is replaced."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import deepterms as dt

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
PIPELINES = (TOP / "ingest_pipelines" / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:9200"


def find_block(language: str, *, holding: str, page: str = README) -> str:
    """Return the only code block in a language that contains a text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if holding in text]
    return str(found)


def shell(commands: str, url: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = commands.replace(ADDRESS, url).replace("scripts/", f"{TOP}/scripts/")
    environment = {**os.environ, "DEEPTERMS_URL": url}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_python(url: str, folder: Path) -> None:
    code = find_block("python", holding="SurrogateIndex")
    assert ADDRESS in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 17
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(ADDRESS, url), "README.md", "exec"), names)
    names["cluster"].close()
    assert names["report"] == dt.WriteReport(8)
    lines = printed.getvalue().splitlines()
    assert lines[0] == "1.000  000100.jpg"
    assert len(lines) == 5  # hits, and no document that failed


def test_curl(url: str, folder: Path) -> None:
    done = shell(find_block("sh", holding="red shoe", page=PIPELINES), url, folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout[done.stdout.rindex('{"took"') :])
    scores = {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}
    assert scores == {"red shoe": 14, "blue shoe": 11}
    assert "scores 3·3 + 2·2 + 1·1 = 14, the blue one 3·3 + 2·1 = 11" in PIPELINES


def test_command_line(url: str, folder: Path) -> None:
    commands = find_block("sh", holding="deepterms index")
    start, *others = commands.splitlines()
    assert start.startswith("deepterms node start")  # the tests of the node start it
    done = shell("\n".join(others), url, folder)
    assert done.returncode == 0, done.stderr
    assert str(folder / "photos" / "000100.jpg") in done.stdout


def test_it_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120


def test_every_file_that_it_names_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    named = re.findall(r"`(?:python |)((?:scripts|benchmarks|docs)/[\w./-]+)", README)
    measured = [f"benchmarks/{script}" for script in re.findall(r"\| `(\w+\.py)[^`]*` \|$", README, re.MULTILINE)]
    assert links
    assert named
    assert measured
    for path in links + named + measured:
        assert (TOP / path).exists(), path


def test_every_result_is_one_of_the_benchmarks() -> None:
    """The table repeats figures of docs/benchmarks.md; a figure must not be changed in one place only."""
    page = (TOP / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (?:`[^`]+`|the same) \|$", README, re.MULTILINE)
    assert 0 < len(rows) <= 8
    for benchmark, result in rows:
        for figure in re.findall(r"\d[\d,.]*\d|\.\d+", benchmark + " " + result):
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d)", page), (benchmark, figure)
