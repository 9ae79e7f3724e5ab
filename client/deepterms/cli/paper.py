"""deepterms paper: reproduces the paper's figure and tables, and reports them on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deepterms.cli.judged_collection import (
    DifficultyChoice,
    JudgementSource,
    describe_package_crops,
    load_collection,
)
from deepterms.cli.paper_tables import table1, table2
from deepterms.cli.terminal import format_command, note, print_table, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["app"]

app = typer.Typer(
    help="Reproduce the figure and the tables of the paper.", no_args_is_help=True, rich_markup_mode="markdown"
)

FOLDER = Path("paper-results")


@app.command("figure1")
def measure_figure1(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="The judged collection: a feature store, an embedding folder of clip-retrieval, or a folder of "
            "photographs. Default: crops of photographs from Debian, npm and PyPI packages.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    qrels: Annotated[
        str,
        typer.Option(
            help="Relevance judgements: holidays (names GGGGVV), a gnd_….pkl or .json file of revisited Oxford or "
            "Paris, the folder of their original text files, or a TREC file."
        ),
    ] = "holidays",
    difficulty: Annotated[
        DifficultyChoice, typer.Option(help="Difficulty of the revisited Oxford and Paris protocols.")
    ] = DifficultyChoice.medium,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Descriptors of the queries, found by name. Default: those of the collection.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    distractors: Annotated[
        list[Path] | None,
        typer.Option(
            help="Documents that are relevant to no query; may be repeated. Their descriptors stream from disk.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    mixtures: Annotated[
        int,
        typer.Option(
            help="Number of synthetic distractors to add, each mixed from three descriptors of unrelated photographs.",
            min=0,
        ),
    ] = 0,
    foreign: Annotated[
        Path | None,
        typer.Option(
            help="Descriptors of unrelated photographs, to train a second IVFPQ.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    crops: Annotated[
        int,
        typer.Option(help="Crops per package photograph: 8 take a few minutes, 48 half an hour.", min=1, max=48),
    ] = 8,
    top_k: Annotated[
        list[int] | None,
        typer.Option(
            help="K with CReLU, and half of it without; may be repeated. Default: the paper's values.",
            show_default=False,
        ),
    ] = None,
    graph: Annotated[bool, typer.Option(help="Include HNSW, which keeps all descriptors in memory.")] = True,
    ivfpq: Annotated[bool, typer.Option(help="Include IVFPQ, which needs at least 256 descriptors to train.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the samples and confidence intervals.", min=0)] = 0,
    name: Annotated[str, typer.Option(help="Name of the files, without suffix.")] = "figure1",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = FOLDER,
) -> None:
    """Measure Figure 1: mAP against the fraction of the collection that a query reads, for every curve of the paper.

    Writes figure1.json, figure1.csv, figure1.svg and figure1.png; `deepterms paper report` turns them into a page.
    """
    from deepterms.paper import Settings, build_figure1_result, measure_figure1, write_figure1

    if source is None and (queries or distractors or foreign or qrels != "holidays"):
        raise typer.BadParameter(
            "--qrels, --queries, --distractors and --foreign require your own collection; pass it as the argument"
        )
    settings: dict[str, Any] = {"seed": seed}
    if top_k:
        settings |= {"top_ks": tuple(sorted(set(top_k))), "plain_top_ks": _plain_top_ks(top_k)}
    if not graph:
        settings["breadths"] = ()
    if not ivfpq:
        settings["probes"] = ()
    unrelated: NDArray[np.float32] | None
    options: dict[str, Any] = {"seed": seed, "top-k": tuple(top_k or ()), "mixtures": mixtures or None}
    if source is None:
        collection, unrelated = describe_package_crops(crops, mixtures=mixtures)
        options["crops"] = crops
    else:
        collection, unrelated = load_collection(
            source,
            JudgementSource(qrels, difficulty),
            queries=queries,
            distractors=distractors or (),
            foreign=foreign,
            mixtures=mixtures,
            seed=seed,
            output=output,
        )
        options |= {"qrels": Path(qrels).name, "distractors": tuple(path.name for path in distractors or ())}
        options |= {"foreign": foreign.name if foreign else None, "queries": queries.name if queries else None}
        if Path(qrels).suffix in {".pkl", ".json"}:
            options["difficulty"] = difficulty.value
    with progress("Measuring") as shown:
        measured = measure_figure1(collection, foreign=unrelated, settings=Settings(**settings), on_progress=shown)
    words = ["paper", "figure1", *([source.name] if source else [])]  # of paths, only the last part
    flags = ("" if graph else " --no-graph") + ("" if ivfpq else " --no-ivfpq")
    result = build_figure1_result(measured, command=format_command(*words, options=options) + flags)
    written = write_figure1(result, output, name=name)
    print_table(_build_table(result))
    for claim in result["claims"]:
        evidence = (
            f"of {len(claim['differences'])} differences, {claim['in_favour']} significantly in favour, "
            f"{claim['against']} against"
        )
        note(
            f"[{'green' if claim['holds'] else 'yellow'}]{'holds' if claim['holds'] else 'does not hold'}[/]: "
            f"{claim['says']} ({evidence})"
        )
    note(f"wrote {', '.join(str(path) for path in written)}")


app.command("table1")(table1)
app.command("table2")(table2)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of results: figure1.json, table1.json, table2.json.")] = FOLDER,
) -> None:
    """Report all results in a folder as one HTML page and as Markdown, and name what has not been measured."""
    from deepterms.paper import write_report

    for path in write_report(folder):
        print(path)


def _plain_top_ks(top_ks: Sequence[int]) -> tuple[int, ...]:
    """Return K without CReLU: half of each, which reads about as many postings, and each itself."""
    return tuple(sorted({max(1, top_k // 2) for top_k in top_ks} | set(top_ks)))


def _build_table(result: Mapping[str, Any]) -> Table:
    table = Table(box=None)
    table.add_column("curve")
    table.add_column("setting")
    for name in ("mAP", "95 %", "R@10", "afda_mean", "afda_sum", "entries read", "documents read"):
        table.add_column(name, justify="right")
    for point in result["points"]:
        table.add_row(
            point["curve"],
            point["setting"],
            f"{point['map']:.3f}",
            f"{point['map_low']:.3f}–{point['map_high']:.3f}",
            f"{point['recall_at_10']:.3f}",
            *("–" if point[name] is None else f"{point[name]:.3g}" for name in ("afda_mean", "afda_sum")),
            f"{point['postings_per_query']:,.0f}",
            f"{point['touched_fraction']:.2%}",
        )
    return table
