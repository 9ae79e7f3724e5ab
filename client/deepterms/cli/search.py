"""deepterms search: finds the photographs in an index that are most similar to one."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from deepterms.cli.connection import UrlOption, open_index
from deepterms.cli.photos import WeightsOption, WhiteningOption, describe_differences, load_whitening
from deepterms.cli.terminal import note, print_json, print_table
from deepterms.errors import EncoderMismatch, InvalidInput
from deepterms.results import Hits
from deepterms.search.options import SearchKeywords

if TYPE_CHECKING:
    from deepterms.features import RMACExtractor
    from deepterms.index import SurrogateIndex

__all__ = ["rebuild_extractor", "search"]


def search(
    name: Annotated[str, typer.Argument(help="The index.")],
    photo: Annotated[Path | None, typer.Argument(help="The query photograph.", show_default=False)] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Id of an indexed document to use as the query instead.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.", min=1)] = 10,
    rerank: Annotated[
        int | None,
        typer.Option(
            help="Number of candidates to re-rank by exact cosine; 0 ranks by the paper's score.",
            min=0,
            show_default="the index's",
        ),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            help='A filter in the query language of the engine, as JSON: {"term": {"metadata.year": 2018}}',
            show_default=False,
        ),
    ] = None,
    effort: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the query's codewords to search for, largest first.",
            min=0,
            max=1,
            show_default="the index's",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            help="Share of the ten nearest documents to find, by what was measured in the index (`deepterms tune`). "
            "--rerank and --effort override it.",
            min=0,
            max=1,
            show_default="the index's",
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out hits with a lower score.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="A metadata field to return, such as path; may be repeated. Default: all.", show_default=False
        ),
    ] = None,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per hit.")] = False,
    url: UrlOption = None,
) -> None:
    """Find the photographs most similar to a given one."""
    if (photo is None) == (id is None):
        raise typer.BadParameter("give either a photograph or --id")
    try:
        parsed = None if filter is None else jsonlib.loads(filter)
    except ValueError as error:
        raise typer.BadParameter(f"--filter is not valid JSON: {error}") from error
    target = open_index(url, name)
    options: SearchKeywords = {
        "k": k,
        "rerank": rerank,
        "filter": parsed,
        "effort": effort,
        "recall": recall,
        "min_score": min_score,
        "fields": field or None,
    }
    if id is not None:
        hits = target.search_by_id(id, **options)
    else:
        extractor = rebuild_extractor(target, weights, whitening)
        hits = target.search(extractor.extract([photo or ""])[0], **options)
    if hits.partial:
        note("[yellow]a shard failed or timed out; hits may be missing[/yellow]")
    if json:
        for rank, hit in enumerate(hits, start=1):
            print_json({"rank": rank, "id": hit.id, "score": hit.score, "metadata": dict(hit.metadata)})
    else:
        print_table(_build_table(hits))
        kept = "" if hits.recall is None else f"; such searches find {hits.recall:.3f} of the ten nearest"
        note(f"{len(hits)} hits of {target.count()} documents; the engine took {hits.took_ms:.0f} ms{kept}")


def rebuild_extractor(target: SurrogateIndex, weights: str, whitening: str) -> RMACExtractor:
    """Rebuild the extractor of an index's descriptors from its spec.

    Args:
        target: the index.
        weights: the option `--weights`.
        whitening: the option `--whitening`.

    Raises:
        InvalidInput: the index does not record which extractor made its descriptors.
        EncoderMismatch: the options do not give that extractor.
    """
    from deepterms.features import RMACExtractor

    spec = target.extractor
    if not spec:
        raise InvalidInput(
            f"the index {target.name!r} does not record which extractor made its descriptors, so photographs cannot be "
            "compared with them; search by --id, or from Python with your own descriptors"
        )
    extractor = RMACExtractor(
        spec["backbone"],
        sizes=spec["sizes"],
        side=spec["side"],
        levels=spec["levels"],
        weights=weights,
        whitening=None if spec["whitening"] is None else load_whitening(whitening),
    )
    if extractor.spec() != dict(spec):
        raise EncoderMismatch(
            f"this extractor is not the one of the index {target.name!r}: "
            f"{describe_differences(spec, extractor.spec())}. "
            "Pass the same --weights and --whitening as when the index was filled"
        )
    return extractor


def _build_table(hits: Hits) -> Table:
    table = Table(box=None)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("path", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        score = f"{hit.score:.4f}" if hit.score <= 1 else f"{hit.score:,.0f}"
        table.add_row(str(rank), score, escape(str(hit.metadata.get("path", hit.id))))
    return table
