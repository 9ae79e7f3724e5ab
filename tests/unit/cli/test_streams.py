"""Output that cannot be written ends a command with a sentence and a status, not with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
ASCII = ENVIRONMENT | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
PRINT = r"""
import sys, typer
from rich.table import Table
from deepterms.cli import app, terminal
@app.app.command("say")
def say(kind: str) -> None:
    if kind == "json":
        terminal.print_json({"id": "\u00e9\u2026\U0001f600"})
    elif kind == "table":
        table = Table("\u00e9\u2026\U0001f600")
        table.add_row("\u2026")
        terminal.print_table(table)
    elif kind == "much":
        for number in range(100_000):
            terminal.print_json({"n": number})
    elif kind == "disk":
        raise OSError(28, "No space left on device", "/photos/store")
    terminal.note("\u00e9\u2026\U0001f600")
sys.argv[0] = "deepterms"
app.main()
"""


def say(
    kind: str, redirection: str = "", environment: dict[str, str] = ENVIRONMENT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" say {kind} {redirection}', sys.executable, PRINT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("kind", ["json", "table", "much"])
def test_a_full_disk_behind_stdout_is_one_sentence(kind: str) -> None:
    run = say(kind, ">/dev/full")
    assert run.returncode == 1
    assert "error: No space left on device; free some space" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr


def test_a_full_disk_names_the_file() -> None:
    run = say("disk")
    assert (run.returncode, run.stderr) == (
        1,
        "error: /photos/store: No space left on device; free some space and run the command again\n",
    )


def test_a_reader_that_has_ended_is_no_error_message() -> None:
    run = say("much", "| head -1")
    assert run.stdout == '{"n": 0}\n'
    assert run.returncode == 1
    assert run.stderr == ""


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_ignored(redirection: str) -> None:
    run = say("json", redirection)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_an_ascii_terminal_gets_escapes() -> None:
    run = say("json", environment=ASCII)
    assert run.returncode == 0, run.stderr
    assert run.stdout.isascii()
    assert json.loads(run.stdout) == {"id": "é…😀"}
    table = say("table", environment=ASCII)
    assert table.returncode == 0, table.stderr
    assert "\\u2026" in table.stdout
