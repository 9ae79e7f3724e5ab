"""deepterms advise: from the size of a collection to the cost and recall of its index, and how to create it."""

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
from deepterms.cli.signals import sigterm_as_interrupt
from deepterms.cli.terminal import note, print_json, print_table

__all__ = ["advise"]


def advise(
    documents: Annotated[int, typer.Option(help="Number of documents that the index will hold.", min=1)],
    dimensions: Annotated[int, typer.Option(help="D, the length of the descriptors.", min=1)] = 1_280,
    recall: Annotated[
        float, typer.Option(help="Minimum R@10: the fraction of the ten nearest neighbours that a search finds.")
    ] = 0.95,
    shards: Annotated[
        int | None, typer.Option(help="Number of shards. Default: recommended.", min=1, show_default=False)
    ] = None,
    queries_per_second: Annotated[
        float | None,
        typer.Option(help="Load to sustain. Default: one query at a time.", show_default=False),
    ] = None,
    measured: Annotated[
        bool,
        typer.Option("--probe/--no-probe", help="Measure the cluster for up to two minutes, or use stored figures."),
    ] = True,
    seconds: Annotated[float, typer.Option(help="Time limit of the probe.", min=1, max=120)] = 110.0,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    url: UrlOption = None,
) -> None:
    """Predict the disk space, memory, latency and recall of an index, and recommend how to create it.

    The probe fills three temporary indices with synthetic descriptors, then deletes them.
    """
    workload = Workload(documents, dimensions, recall, shards=shards, queries_per_second=queries_per_second)
    figures = REFERENCE
    if measured:
        note(f"measuring the cluster for up to {seconds:g} seconds; --no-probe uses stored figures instead")
        with sigterm_as_interrupt():
            figures = probe(connect(url), dimensions=dimensions, seconds=seconds)
    prediction = advice_on(workload, figures)
    if json:
        print_json({**asdict(prediction), "total_bytes": prediction.total_bytes, "figures": asdict(figures)})
        return
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, sentence in summarize(prediction, workload, figures):
        table.add_row(Text(subject, style="bold"), Text(sentence))
    print_table(table)
