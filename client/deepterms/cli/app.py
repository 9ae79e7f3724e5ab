"""Assembles the commands, and turns errors into one sentence on stderr and exit status 1."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from deepterms.cli import (
    advise,
    demo,
    deployment,
    doctor,
    export,
    indexing,
    migrate,
    node,
    paper,
    photos,
    search,
    serve,
    tune,
)
from deepterms.cli.terminal import describe_system_error, discard_output, prepare_streams, print_error
from deepterms.errors import DeepTermsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="deepterms",
    help="Image retrieval on stock Elasticsearch or OpenSearch.\n\n"
    "Results go to stdout, progress and notes to stderr.\n\n"
    "Exit status: 0 success, 1 failure, 2 invalid usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"deepterms {version('deepterms')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


app.command("demo")(demo.demo)
app.command("extract")(photos.extract)
app.command("fit-whitening")(photos.fit_whitening)
app.command("deploy")(deployment.deploy)
app.command("check")(deployment.check)
app.command("migrate")(migrate.migrate)
app.command("index")(indexing.index)
app.command("tune")(tune.tune)
app.command("search")(search.search)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.command("advise")(advise.advise)
app.add_typer(node.app, name="node")
app.add_typer(paper.app, name="paper")


def main() -> None:
    """Run the command line. This is the console script."""
    prepare_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # an error here is reported, one at exit is not
    except DeepTermsError as error:
        print_error(str(error))
        sys.exit(1)
    except OSError as error:  # a full disk, a file without permission, a program in a pipe that has ended
        discard_output()
        if error.errno != errno.EPIPE:
            print_error(describe_system_error(error))
        sys.exit(1)
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(130)
