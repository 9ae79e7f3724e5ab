"""deepterms node: runs OpenSearch on this machine, without Docker or an installed Java."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from deepterms.cli.terminal import note, print_json, print_table, progress
from deepterms.node import Node, NodeStatus

__all__ = ["app", "start_node"]

app = typer.Typer(
    help="Run OpenSearch on this machine, without Docker or an installed Java.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def start_node(*, port: int | None = None, heap: str = "1g") -> NodeStatus:
    """Start the node unless it is running already, with progress on stderr."""
    with progress("Downloading OpenSearch") as report:
        return Node().start(port=port, heap=heap, on_progress=report)


@app.command()
def start(
    port: Annotated[
        int | None, typer.Option(help="HTTP port. Default: the first free port from 9200 upwards.", show_default=False)
    ] = None,
    heap: Annotated[str, typer.Option(help="Java heap size.")] = "1g",
    json: JsonOption = False,
) -> None:
    """Start OpenSearch, which runs until `deepterms node stop`.

    The first start downloads it.
    """
    _show(start_node(port=port, heap=heap), json=json)


@app.command()
def stop() -> None:
    """Stop OpenSearch. Its data is kept."""
    note("stopped" if Node().stop() else "no node was running")


@app.command()
def status(json: JsonOption = False) -> None:
    """Show whether the node is running, and where.

    Exits with status 1 if it is not running.
    """
    found = Node().status()
    _show(found, json=json)
    if not found.running:
        sys.exit(1)


@app.command()
def logs(lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Number of lines.")] = 50) -> None:
    """Print the last lines of the node's log."""
    for line in Node().logs(lines):
        print(line)


def _show(found: NodeStatus, *, json: bool) -> None:
    facts = {
        "running": found.running,
        "url": found.url,
        "health": found.health,
        "documents": found.documents,
        "version": found.version,
        "pid": found.pid,
        "data": str(found.data_dir),
        "log": str(found.log),
    }
    if json:
        print_json(facts)
        return
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        if value is not None:
            table.add_row(f"[bold]{name}", str(value))
    print_table(table)
