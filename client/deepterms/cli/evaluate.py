"""deepterms evaluate: the paper's figure measured again, and one report of figure and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deepterms.cache import cache_folder
from deepterms.cli.photos import extract_folder, extractor_of, name_failures
from deepterms.cli.terminal import note, print_table, progress
from deepterms.errors import EncoderMismatch, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepterms.evaluation import JudgedFeatures, Judgements
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["app"]

app = typer.Typer(help="The paper's figure measured again, and one report.", no_args_is_help=True)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="A folder for the results.")]
FOLDER = Path("paper-results")


class DifficultyChoice(str, Enum):
    """What `--difficulty` takes."""

    easy = "easy"
    medium = "medium"
    hard = "hard"


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
    from deepterms.paper import Settings, figure1, figure1_result, write_figure1

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
        collection, unrelated = _package_crops(crops, mixtures=mixtures)
        options["crops"] = crops
    else:
        collection, unrelated = _own(
            source,
            _Judged(qrels, difficulty),
            queries=queries,
            distractors=distractors or (),
            foreign=foreign,
            mixtures=mixtures,
            seed=seed,
            output=output,
        )
        options |= {"qrels": Path(qrels).name, "distractors": tuple(path.name for path in distractors or ())}
        options |= {"foreign": foreign.name if foreign else None, "queries": queries.name if queries else None}
    with progress("Measuring") as report:
        measured = figure1(collection, foreign=unrelated, settings=Settings(**chosen), on_progress=report)
    command = _command("figure1", source, options) + ("" if graph else " --no-graph") + ("" if ivfpq else " --no-ivfpq")
    result = figure1_result(measured, command=command)
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


class _Judged:
    """What `--qrels` and `--difficulty` name."""

    def __init__(self, qrels: str, difficulty: DifficultyChoice) -> None:
        self.qrels, self.difficulty = qrels, difficulty

    def judgements(self, ids: Sequence[str]) -> Judgements:
        from deepterms.evaluation import holidays_judgements, read_oxford, read_qrels, read_revisited

        path = Path(self.qrels)
        if self.qrels == "holidays" and not path.exists():
            return holidays_judgements(ids)
        if path.is_dir():
            return read_oxford(path)
        if path.suffix in {".pkl", ".json"}:
            return read_revisited(path, difficulty=self.difficulty.value)
        return read_qrels(path)


def _package_crops(crops: int, *, mixtures: int) -> tuple[JudgedFeatures, NDArray[np.float32]]:
    """Crops of package photographs, and those of other photographs; mixtures are of a half of the latter alone."""
    from dataclasses import replace

    from deepterms.evaluation import MixedFeatures
    from deepterms.evaluation.crops import describe_crops

    with progress("Describing crops") as report:
        described = describe_crops(cache_folder() / "benchmarks", crops=crops, on_progress=report)
    collection, unrelated = described.collection(), described.foreign
    if not mixtures:
        return collection, unrelated
    half = len(unrelated) // 2
    added = MixedFeatures(unrelated[half:], mixtures)
    name = f"{collection.name} and mixtures"
    return replace(collection, name=name, distractors=(added,)), unrelated[:half]


def _own(
    source: Path,
    judged: _Judged,
    *,
    queries: Path | None,
    distractors: Sequence[Path],
    foreign: Path | None,
    mixtures: int,
    seed: int,
    output: Path,
) -> tuple[JudgedFeatures, NDArray[np.float32] | None]:
    """A collection of the user's, with its distractors, and descriptors of unrelated photographs."""
    from deepterms.evaluation import FeatureStream, JudgedFeatures, MixedFeatures, StoredFeatures, sample_rows

    if mixtures and foreign is None:
        raise InvalidInput("--mixtures are made of descriptors of other photographs; name some with --foreign")
    store = _descriptors(source, output)
    ids = [id for batch in store.batches() for id in batch.ids]
    judgements = judged.judgements(ids)
    names = [*judgements.relevant, *(id for relevant in judgements.relevant.values() for id in relevant)]
    if not any(name.endswith(".jpg") for name in names):  # ground truths name images, stores their files
        ids = [id.removesuffix(".jpg") for id in ids]
    if queries is None:
        if judgements.boxes:
            note(
                "[yellow]queries are whole photographs here;[/yellow] the protocol cuts them to their boxes: --queries"
            )
        vectors = _vectors(store, ids, {judgements.images.get(query, query) for query in judgements.queries})
        asked = {
            query: vectors[image]
            for query in judgements.queries
            if (image := judgements.images.get(query, query)) in vectors
        }
    else:
        given = _alike(store, queries, output)
        asked = _vectors(given, [id.removesuffix(".jpg") for batch in given.batches() for id in batch.ids], None)
    added: list[FeatureStream] = [StoredFeatures(_alike(store, path, output)) for path in distractors]
    unrelated = None
    if foreign is not None:
        from deepterms.paper.figure1 import MOST_TRAINING_ROWS

        unrelated = sample_rows((StoredFeatures(_alike(store, foreign, output)),), MOST_TRAINING_ROWS, seed=seed)
    if mixtures and unrelated is not None:
        half = len(unrelated) // 2
        added.append(MixedFeatures(unrelated[half:], mixtures))
        unrelated = unrelated[:half]
    collection = JudgedFeatures.from_ids(
        source.name,
        judgements,
        ids=ids,
        features=StoredFeatures(store),
        queries=asked,
        distractors=added,
    )
    return collection, unrelated


def _descriptors(source: Path, output: Path) -> FeatureStore | EmbeddingFolder:
    """A store as it is; photographs are described into one first, so a cut run goes on."""
    from deepterms.features import EmbeddingFolder, FeatureStore

    if (source / "store.json").exists():
        return FeatureStore.open(source)
    if EmbeddingFolder.found_in(source):
        return EmbeddingFolder.open(source)
    output.mkdir(parents=True, exist_ok=True)
    extractor = extractor_of("efficientnet_lite0", None, "imagenet", "default")
    described = extract_folder(extractor, source.resolve(), output / f"{source.resolve().name}-features")
    name_failures(described.failures)
    return described.store


def _alike(store: FeatureStore | EmbeddingFolder, source: Path, output: Path) -> FeatureStore | EmbeddingFolder:
    """The descriptors of a folder, which the same extractor must have made, as far as both say."""
    other = _descriptors(source, output)
    if store.spec and other.spec and dict(store.spec) != dict(other.spec):
        raise EncoderMismatch(
            f"{source} holds descriptors of another extractor than {store.folder}, which cannot be compared; describe "
            "both with the same options of `deepterms extract`"
        )
    return other


def _vectors(
    store: FeatureStore | EmbeddingFolder, ids: Sequence[str], wanted: set[str] | None
) -> dict[str, NDArray[np.float32]]:
    """Descriptors of some ids, or of all."""
    found: dict[str, NDArray[np.float32]] = {}
    start = 0
    for batch in store.batches():
        for row, id in enumerate(ids[start : start + len(batch.ids)]):
            if wanted is None or id in wanted:
                found[id] = batch.features[row].copy()
        start += len(batch.ids)
    return found


def _halves(top_ks: Sequence[int]) -> tuple[int, ...]:
    """K without CReLU that read as much: half as many of half as many codewords; and the same K."""
    return tuple(sorted({max(1, top_k // 2) for top_k in top_ks} | set(top_ks)))


def _command(name: str, source: Path | None, options: Mapping[str, Any]) -> str:
    """The command line that gives the same again; of paths the last part."""
    words = ["deepterms", "evaluate", name, *([source.name] if source else [])]
    for option, value in options.items():
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                words += [f"--{option}", str(one)]
    return shlex.join(words)


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
