"""deepterms deploy and check: this release's templates and pipelines into a cluster, and what has become of them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from deepterms import deployment
from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.terminal import note, print_json, print_table
from deepterms.deployment import Change

__all__ = ["check", "deploy"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON a resource.")]


def deploy(
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite resources that differ, or that deepterms did not make.")
    ] = False,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Overwrite resources of a later release.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Have the engine check everything, and write nothing.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Put the ingest pipelines and index templates into the cluster; a second call changes nothing.

    Exit status 1 if the cluster holds something else under one of the names, or would refuse a resource; then nothing
    is written.
    """
    planned = deployment.plan(connect(url))
    if dry_run:
        print(planned)
        deployment.rehearse(planned, replace=replace, allow_downgrade=allow_downgrade)
        note("nothing was written; the engine takes all of it")
        return
    report = deployment.apply(planned, replace=replace, allow_downgrade=allow_downgrade)
    for what in ("created", "replaced", "unchanged"):
        for file in getattr(report, what):
            print(f"{what:<9} {file}")


def check(json: JsonOption = False, url: UrlOption = None) -> None:
    """Compare the cluster's templates and pipelines with this release's. Exit status 1 if one is missing or differs."""
    planned = deployment.plan(connect(url))
    if json:
        for change in planned.changes:
            print_json(
                {
                    "resource": change.asset.file,
                    "state": change.state,
                    "version": change.version,
                    "expected": change.asset.body["version"],
                    "diff": change.diff,
                }
            )
    else:
        print_table(_table(planned.changes))
        for change in planned.pending:
            if change.diff:
                print(change.diff)
    if planned.pending:
        note(
            f"[yellow]{len(planned.pending)} of {len(planned.changes)} are not as in this release;[/yellow] "
            "`deepterms deploy --dry-run` tells what a deployment would do"
        )
        sys.exit(1)


def _table(changes: tuple[Change, ...]) -> Table:
    table = Table(box=None)
    table.add_column("state")
    table.add_column("version", justify="right")
    table.add_column("expected", justify="right")
    table.add_column("resource", overflow="fold")
    for change in changes:
        version = "" if change.version is None else str(change.version)
        table.add_row(change.state, version, str(change.asset.body["version"]), escape(change.asset.file))
    return table
