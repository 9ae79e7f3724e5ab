"""Every `deepterms …` command in the documentation exists, and has the options that the page names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from deepterms.cli.app import app

TOP = Path(__file__).parents[2]
PAGES = [
    *(TOP / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(TOP / folder / "README.md" for folder in ("benchmarks", "index_templates", "ingest_pipelines")),
    *sorted((TOP / "docs").glob("*.md")),
]


def find_commands(page: str) -> list[str]:
    """Return the commands of a page: lines of shell blocks, continued ones joined, and code within sentences."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    sentences = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    lines = [line.partition(" #")[0] for line in blocks.splitlines()]
    quoted = re.findall(r"`(deepterms [^`]+)`", sentences)
    return [" ".join(text.split()) for text in lines + quoted if text.startswith("deepterms ")]


COMMANDS = sorted({command for page in PAGES for command in find_commands(page.read_text(encoding="utf-8"))})


def test_commands_are_found() -> None:
    page = "`deepterms check`, `other`\n```sh\ndeepterms node \\\n  start   # one\nls\n```\n"
    assert find_commands(page) == ["deepterms node start", "deepterms check"]
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_exists(text: str) -> None:
    command: Any = typer.main.get_command(app)
    words = text.split()[1:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        word = words.pop(0)
        assert word in command.commands, word
        command = command.commands[word]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options | {"--help"}, word
