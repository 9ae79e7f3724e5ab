"""deepterms deploy and check: write this release's templates and pipelines to a cluster, and detect drift."""

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

JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON per resource.")]


def deploy(
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite resources that differ, or that deepterms did not create.")
    ] = False,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Overwrite resources of a later release.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the engine validate everything without writing.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Write the ingest pipelines and index templates to the cluster.

    A second run changes nothing. Exits with status 1, without writing anything, if the cluster holds something else
    under one of the names or would reject a resource.
    """
    planned = deployment.plan(connect(url))
    if dry_run:
        print(planned)
        deployment.rehearse(planned, replace=replace, allow_downgrade=allow_downgrade)
        note("dry run: the engine accepts everything; nothing was written")
        return
    report = deployment.apply(planned, replace=replace, allow_downgrade=allow_downgrade)
    for outcome in ("created", "replaced", "unchanged"):
        for file in getattr(report, outcome):
            print(f"{outcome:<9} {file}")


def check(json: JsonOption = False, url: UrlOption = None) -> None:
    """Compare the cluster's templates and pipelines with this release's.

    Exits with status 1 if any is missing, differs, or is overridden by another template of higher priority.
    """
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
                    "overridden": change.overridden,
                }
            )
    else:
        print_table(_build_table(planned.changes))
        for change in planned.pending:
            if change.diff:
                print(change.diff)
    for sentence in planned.overridden:
        note(f"[red]no index can be created:[/red] {escape(sentence)}")
    if planned.pending:
        note(
            f"[yellow]{len(planned.pending)} of {len(planned.changes)} resources are missing or differ from this "
            "release;[/yellow] `deepterms deploy --dry-run` shows what a deployment would do"
        )
    if planned.pending or planned.overridden:
        sys.exit(1)


def _build_table(changes: tuple[Change, ...]) -> Table:
    table = Table(box=None)
    table.add_column("state")
    table.add_column("version", justify="right")
    table.add_column("expected", justify="right")
    table.add_column("resource", overflow="fold")
    for change in changes:
        version = "" if change.version is None else str(change.version)
        table.add_row(change.state, version, str(change.asset.body["version"]), escape(change.asset.file))
    return table
