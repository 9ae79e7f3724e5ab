"""deepterms evaluate: the paper's figure measured again, and one report of figure and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deepterms.cli.judged_collection import DifficultyChoice, Judged, own_collection, package_crops
from deepterms.cli.terminal import command_line, note, print_table, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["app"]

app = typer.Typer(help="The paper's figure measured again, and one report.", no_args_is_help=True)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="A folder for the results.")]
FOLDER = Path("paper-results")


@app.command("figure1")
def figure(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="The judged collection: a feature store, embeddings of clip-retrieval, or a folder of photographs. "
            "Default: crops of photographs out of packages.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    qrels: Annotated[
        str,
        typer.Option(
            help="What is right: holidays (by names GGGGVV), a gnd_….pkl or .json of revisited Oxford or Paris, the "
            "folder of their old text files, or a TREC file."
        ),
    ] = "holidays",
    difficulty: Annotated[DifficultyChoice, typer.Option(help="Of the revisited protocols.")] = DifficultyChoice.medium,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Descriptors of the queries, by name. Default: those of the collection.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    distractors: Annotated[
        list[Path] | None,
        typer.Option(
            help="More documents, right for no query; may be repeated. Their descriptors stream from the disk.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    mixtures: Annotated[
        int,
        typer.Option(help="So many distractors more, each mixed from three descriptors of other photographs.", min=0),
    ] = 0,
    foreign: Annotated[
        Path | None,
        typer.Option(
            help="Descriptors of unrelated photographs: a second IVFPQ is trained on them.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    crops: Annotated[
        int,
        typer.Option(help="Of each photograph out of packages: 8 take a few minutes, 48 half an hour.", min=1, max=48),
    ] = 8,
    top_k: Annotated[
        list[int] | None,
        typer.Option(
            help="K with CReLU, half of it without; may be repeated. Default: the paper's.", show_default=False
        ),
    ] = None,
    graph: Annotated[bool, typer.Option(help="With HNSW, which holds all descriptors in memory.")] = True,
    ivfpq: Annotated[bool, typer.Option(help="With IVFPQ, whose codebooks need 256 descriptors at least.")] = True,
    seed: Annotated[int, typer.Option(help="Of samples and intervals.", min=0)] = 0,
    name: Annotated[str, typer.Option(help="Of the files.")] = "figure1",
    output: OutputOption = FOLDER,
) -> None:
    """Figure 1: mAP against the part of the collection that a query reads, for every curve of the paper.

    Writes figure1.json, figure1.csv, figure1.svg and figure1.png. `deepterms evaluate report` makes a page of them.
    """
    from deepterms.paper import Settings, build_figure1_result, measure_figure1, write_figure1

    if source is None and (queries or distractors or foreign or qrels != "holidays"):
        raise typer.BadParameter(
            "--qrels, --queries, --distractors and --foreign go with a collection of your own; name it first"
        )
    chosen: dict[str, Any] = {"seed": seed}
    if top_k:
        chosen |= {"top_ks": tuple(sorted(set(top_k))), "plain_top_ks": _halves(top_k)}
    if not graph:
        chosen["breadths"] = ()
    if not ivfpq:
        chosen["probes"] = ()
    unrelated: NDArray[np.float32] | None
    options: dict[str, Any] = {"seed": seed, "top-k": tuple(top_k or ()), "mixtures": mixtures or None}
    if source is None:
        collection, unrelated = package_crops(crops, mixtures=mixtures)
        options["crops"] = crops
    else:
        collection, unrelated = own_collection(
            source,
            Judged(qrels, difficulty),
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
        measured = measure_figure1(collection, foreign=unrelated, settings=Settings(**chosen), on_progress=shown)
    words = ["evaluate", "figure1", *([source.name] if source else [])]  # of paths the last part
    flags = ("" if graph else " --no-graph") + ("" if ivfpq else " --no-ivfpq")
    result = build_figure1_result(measured, command=command_line(*words, options=options) + flags)
    written = write_figure1(result, output, name=name)
    print_table(_points(result))
    for claim in result["claims"]:
        for_it = (
            f"{claim['in_favour']} of {len(claim['differences'])} differences beyond chance, {claim['against']} against"
        )
        note(
            f"[{'green' if claim['holds'] else 'yellow'}]{'holds' if claim['holds'] else 'does not hold'}[/]: "
            f"{claim['says']} ({for_it})"
        )
    note(f"wrote {', '.join(str(path) for path in written)}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Of results: figure1.json, table1.json, table2.json.")] = FOLDER,
) -> None:
    """One page of all results in a folder, and the same as Markdown; what has not been measured is named."""
    from deepterms.paper import write_report

    for path in write_report(folder):
        print(path)


def _halves(top_ks: Sequence[int]) -> tuple[int, ...]:
    """K without CReLU that read as much: half as many of half as many codewords; and the same K."""
    return tuple(sorted({max(1, top_k // 2) for top_k in top_ks} | set(top_ks)))


def _points(result: Mapping[str, Any]) -> Table:
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
