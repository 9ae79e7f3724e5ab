"""What a person sees: results on stdout; progress, notes and complaints on stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = ["command_line", "complain", "note", "print_json", "print_table", "progress"]

# In a pipe nothing is folded: a path must stay one word for the next program.
_results = Console(width=None if sys.stdout.isatty() else 1_000)
_notes = Console(stderr=True)


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "", style="dim")


def command_line(*words: str, options: Mapping[str, Any]) -> str:
    """A command that gives a result again: without None, an option as often as its tuple has values."""
    given = ["deepterms", *words]
    for name, value in options.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                given += [f"--{name}", str(one)]
    return shlex.join(given)


def note(text: str) -> None:
    """A line that tells what goes on."""
    _notes.print(text, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """What went wrong, and what to do."""
    _notes.print(Text.assemble(("error: ", "bold red"), text), highlight=False, soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON for programs."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(table: Table) -> None:
    """A table for people."""
    _results.print(table)


@contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar with rate and time left, gone where stderr is no terminal.

    Yields:
        a function of (done, total, …) to call after each step.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", style="dim"),
    )
    with Progress(*columns, console=_notes, disable=not _notes.is_terminal) as bar:
        task = bar.add_task(what, total=None, detail="")

        def report(done: int, total: int | None = None, detail: str = "") -> None:
            bar.update(task, completed=done, total=total, detail=detail[:40])

        yield report
