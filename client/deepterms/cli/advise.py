"""deepterms advise: what an index of some size costs and finds, and how to make it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from deepterms.advice import REFERENCE, Workload, probe
from deepterms.advice import advise as advice_on
from deepterms.advice.summary import summarize
from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.signals import terminated_as_interrupted
from deepterms.cli.terminal import note, print_json, print_table

__all__ = ["advise"]


def advise(
    documents: Annotated[int, typer.Option(help="How many the index will hold.", min=1)],
    dimensions: Annotated[int, typer.Option(help="D of the descriptors.", min=1)] = 1_280,
    recall: Annotated[float, typer.Option(help="R@10 at least: the share of the ten nearest that is found.")] = 0.95,
    shards: Annotated[int | None, typer.Option(help="How many; default: chosen.", min=1, show_default=False)] = None,
    queries_per_second: Annotated[
        float | None, typer.Option(help="At once; default: one after the other.", show_default=False)
    ] = None,
    measured: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Measure the cluster for up to two minutes, or take stored figures."),
    ] = True,
    seconds: Annotated[float, typer.Option(help="For the probe.", min=1, max=120)] = 110.0,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    url: UrlOption = None,
) -> None:
    """Predict bytes, memory, milliseconds and recall of an index, and recommend how to make it.

    The probe fills three temporary indices with synthetic descriptors, and deletes them.
    """
    workload = Workload(documents, dimensions, recall, shards=shards, queries_per_second=queries_per_second)
    figures = REFERENCE
    if measured:
        note(f"measuring the cluster, up to {seconds:g} seconds; --no-probe takes stored figures")
        with terminated_as_interrupted():
            figures = probe(connect(url), dimensions=dimensions, seconds=seconds)
    prediction = advice_on(workload, figures)
    if json:
        print_json({**asdict(prediction), "total_bytes": prediction.total_bytes, "figures": asdict(figures)})
        return
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, said in summarize(prediction, workload, figures):
        table.add_row(Text(subject, style="bold"), Text(said))
    print_table(table)
