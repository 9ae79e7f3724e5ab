"""deepterms doctor: examines a cluster and prints on one screen whether it is fit for surrogate text search."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.terminal import note, print_json, print_table
from deepterms.doctor import examine
from deepterms.doctor.findings import Finding

__all__ = ["doctor"]


def doctor(
    name: Annotated[str | None, typer.Argument(help="Index to examine. Default: all.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per finding.")] = False,
    url: UrlOption = None,
) -> None:
    """Examine the cluster and its indices.

    As a test, indexes a document, finds it with the exact score, and deletes it. Exits with status 1 if any finding is
    red.
    """
    findings = examine(connect(url), name)
    if json:
        for finding in findings:
            print_json(asdict(finding))
    else:
        print_table(_build_table(findings))
    red = sum(finding.level == "red" for finding in findings)
    yellow = sum(finding.level == "yellow" for finding in findings)
    if red or yellow:
        note(f"{red} red, {yellow} yellow")
    if red:
        sys.exit(1)


def _build_table(findings: tuple[Finding, ...]) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(finding.level, style=finding.level), Text(finding.subject), text)
    return table
