"""The README's own blocks, run as they stand; only the cluster's address is put in."""

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
README = (TOP / "README.md").read_text()
ADDRESS = "http://localhost:9200"


def block(language: str, *, holding: str) -> str:
    """The one block of a language that holds a text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text]
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
    code = block("python", holding="SurrogateIndex")
    assert ADDRESS in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    printed = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(ADDRESS, url), "README.md", "exec"), names)
    names["cluster"].close()
    assert names["report"] == dt.WriteReport(8)
    lines = printed.getvalue().splitlines()
    assert lines[0] == f"1.000  {Path('photos/100000.jpg')}"
    assert len(lines) == 5


def test_curl(url: str, folder: Path) -> None:
    done = shell(block("sh", holding="_bulk"), url, folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout[done.stdout.rindex('{"took"') :])
    scores = {hit["_id"]: hit["_score"] for hit in answer["hits"]["hits"]}
    assert scores == {"red shoe": 14, "blue shoe": 11}
    assert "scores 3·3 + 2·2 + 1·1 = 14, the blue one 3·3 + 2·1 = 11" in README


def test_command_line(url: str, folder: Path) -> None:
    commands = block("sh", holding="deepterms index")
    start, *others = commands.splitlines()
    assert start.startswith("deepterms node start")  # the tests of the node start it
    done = shell("\n".join(others), url, folder)
    assert done.returncode == 0, done.stderr
    assert str(folder / "photos" / "100000.jpg") in done.stdout


def test_every_file_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(r"`(?:python |)((?:scripts|benchmarks|docs)/[\w./-]+)", README)
    assert links
    assert named
    for path in links + named:
        assert (TOP / path).exists(), path
