"""deepterms tune: measures the recall of an index, and stores what keeps a recall."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from deepterms.cli.connection import UrlOption, open_index
from deepterms.cli.signals import sigterm_as_interrupt
from deepterms.cli.terminal import note, print_json, print_table, progress
from deepterms.schema.tuning import SearchSetting, Tuning

__all__ = ["tune"]


def tune(
    name: Annotated[str, typer.Argument(help="The index.")],
    recall: Annotated[
        float | None,
        typer.Option(
            help="Share of the ten nearest documents that searches are to find.",
            min=0,
            max=1,
            show_default="the index's, or 0.95",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="A .npy file of descriptors to measure with, float32 (N, D). Default: documents of the index.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    sample: Annotated[int, typer.Option(help="Number of documents to draw as queries.", min=20, max=2_000)] = 400,
    throttle: Annotated[
        float, typer.Option(help="Seconds to pause after each search, per second that it took.", min=0)
    ] = 0.0,
    state: Annotated[
        Path | None,
        typer.Option(
            help="A file in which results are kept, so that an interrupted run resumes.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    url: UrlOption = None,
) -> None:
    """Measure the recall and the milliseconds of searches, and let searches keep a recall from then on.

    The ten nearest documents of some hundred queries are found by comparing all documents, one search at a time. Half
    of the queries choose settings, the other half verify them. The result is stored with the index.
    """
    target = open_index(url, name)
    asked = None if queries is None else np.load(queries, allow_pickle=False)
    with progress("tuning") as report, sigterm_as_interrupt():
        found = target.tune(
            recall=recall,
            queries=asked,
            sample=sample,
            throttle=throttle,
            state=state,
            on_progress=lambda what, done, total: report(done, total, what),
        )
    if json:
        print_json(found.to_meta())
        return
    print_table(_build_table(found))
    chosen = found.choose()
    note(
        f"searches of {name!r} now keep a recall of {found.recall:g}: {chosen}, {chosen.ms:.1f} ms; measured with "
        f"{found.queries} queries and verified with as many others, among {found.documents:,} documents"
    )
    if chosen.compares == "all":
        note(f"[yellow]no setting reaches {found.recall:g}; a lower --recall takes less time[/yellow]")


def _build_table(found: Tuning) -> Table:
    table = Table(box=None)
    for column in ("setting", "recall", "at least", "verified", "ms"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for setting in (*found.settings, found.exhaustive):
        table.add_row(
            str(setting), f"{setting.recall:.3f}", f"{setting.bound:.3f}", _format(setting), f"{setting.ms:.1f}"
        )
    return table


def _format(setting: SearchSetting) -> str:
    return "" if setting.verified is None else f"{setting.verified:.3f}"
