"""Prints what a person sees: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
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

__all__ = [
    "describe_system_error",
    "discard_output",
    "format_command",
    "note",
    "note_each",
    "note_stage",
    "prepare_streams",
    "print_error",
    "print_json",
    "print_table",
    "progress",
]

_MAX_LISTED = 20

# Wide enough in a pipe that nothing is wrapped: the next program must get each path in one piece.
_results = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else 1_000)
_notes = Console(stderr=True)


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed and speed >= 10 else f"{speed:.1f}/s" if speed else "", style="dim")


def format_command(*words: str, options: Mapping[str, Any]) -> str:
    """Format the command that reproduces a result.

    Options whose value is None are left out; a tuple repeats its option.
    """
    parts = ["deepterms", *words]
    for name, value in options.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                parts += [f"--{name}", str(one)]
    return shlex.join(parts)


def note(text: str) -> None:
    """Print a line about what is happening to stderr."""
    _notes.print(text, highlight=False, soft_wrap=True)


def note_each(label: str, lines: Sequence[str]) -> None:
    """Print lines with a label to stderr, the first 20 of many.

    Args:
        label: what they have in common, as markup.
        lines: plain text.
    """
    for line in lines[:_MAX_LISTED]:
        note(f"{label} {escape(line)}")
    if len(lines) > _MAX_LISTED:
        note(f"{label} … and {len(lines) - _MAX_LISTED} more")


def note_stage(text: str) -> None:
    """Print a line about a completed stage to stderr, unless it is a terminal, where progress bars show the stages."""
    if not _notes.is_terminal:
        note(text)


def print_error(text: str) -> None:
    """Print an error message to stderr, if it can be written to."""
    with suppress(OSError):
        _notes.print(Text.assemble(("error: ", "bold red"), text), highlight=False, soft_wrap=True)


def prepare_streams() -> None:
    """Make stdout and stderr usable: a closed one is discarded, and what an encoding lacks is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (for as long as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Discard what is buffered for stdout, which Python would otherwise try to write once more when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe_system_error(error: OSError) -> str:
    """Describe an error of the operating system in a sentence."""
    reason = error.strerror or str(error)
    file = "" if error.filename is None else f"{error.filename}: "
    advice = "; free some space and run the command again" if error.errno == errno.ENOSPC else ""
    return f"{file}{reason}{advice}"


def print_json(value: Mapping[str, Any]) -> None:
    """Print one line of JSON to stdout, for programs."""
    print(json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() not in ("utf-8", "utf8")))


def print_table(table: Table) -> None:
    """Print a table to stdout, for people."""
    _results.print(table)


@contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar with rate and time left, unless stderr is not a terminal.

    Yields:
        a function of (done, total, detail) to call after each step.
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
