"""The commands together, and what a failure looks like: one sentence on stderr and exit status 1."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from deepterms.cli import (
    advise,
    bench,
    demo,
    deployment,
    doctor,
    evaluate,
    export,
    indexing,
    migrate,
    node,
    photos,
    serve,
)
from deepterms.cli.terminal import complain
from deepterms.errors import DeepTermsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="deepterms",
    help="Image retrieval on a stock Elasticsearch or OpenSearch.\n\n"
    "Results go to stdout, progress and notes to stderr.\n\n"
    "Exit status: 0 done, 1 refused by the data or the cluster, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"deepterms {version('deepterms')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app.command("demo")(demo.demo)
app.command("extract")(photos.extract)
app.command("fit-whitening")(photos.fit_whitening)
app.command("deploy")(deployment.deploy)
app.command("check")(deployment.check)
app.command("migrate")(migrate.migrate)
app.command("index")(indexing.index)
app.command("search")(indexing.search)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.command("advise")(advise.advise)
app.add_typer(bench.app, name="bench")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(node.app, name="node")


def main() -> None:
    """Run the command line; the console script."""
    try:
        app()
    except DeepTermsError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(130)
