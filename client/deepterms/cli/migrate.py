"""deepterms migrate: an index into a new one of another layout, version or encoder, behind the same name."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from deepterms import migration
from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.terminal import note, print_json, progress
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.migration import MigrationReport, parse_layout

__all__ = ["migrate"]


def migrate(
    name: Annotated[str, typer.Argument(help="The index.")],
    to: Annotated[
        str | None,
        typer.Option(help="The layout, such as words, or words-v2 for a version. Default: as now.", show_default=False),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Another K: terms are made anew from the stored vectors.", min=1, show_default=False),
    ] = None,
    binary: Annotated[
        bool | None,
        typer.Option(help="Codewords without or with their ranks: made anew from the vectors.", show_default=False),
    ] = None,
    repivot: Annotated[
        int | None,
        typer.Option(
            help="So many new pivots, sampled from the stored vectors; terms are made anew.",
            min=1,
            metavar="COUNT",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Of the new index. Default: as now.", min=1, show_default=False)
    ] = None,
    dense_vector: Annotated[
        bool | None,
        typer.Option(
            help="With or without Elasticsearch's own field for vectors, by which re-ranking is faster.",
            show_default=False,
        ),
    ] = None,
    sketch: Annotated[
        bool | None,
        typer.Option(
            help="With or without the signs of the vectors, by which many candidates are compared in little time.",
            show_default=False,
        ),
    ] = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old/--keep", help="Delete what NAME does not point to any more; alone: only that.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="Point NAME to the index it was migrated from.")] = False,
    lose_writes: Annotated[
        bool, typer.Option("--lose-writes", help="With --back: although the new index was written to since.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    url: UrlOption = None,
) -> None:
    """Move an index to another layout, version or encoder, under load; NAME points to the new one at the end.

    The old index stays for --back until --drop-old. A run that was cut is run again and goes on. While the last writes
    are copied, a second or so, writes are refused with the status 403; `deepterms index` waits and sends them again.
    """
    changes = (to, top_k, binary, repivot, shards, dense_vector, sketch) != (None,) * 7
    if (back and (changes or drop_old)) or (lose_writes and not back):
        raise typer.BadParameter("--back goes alone, or with --lose-writes")
    if not changes and not back and not drop_old:
        raise typer.BadParameter(
            "say what to change: --to, --top-k, --binary, --repivot, --shards, --dense-vector, --sketch; or --back, or "
            "--drop-old"
        )
    client = connect(url)
    if back:
        _show(migration.roll_back(client, name, discard_writes=lose_writes), json=json)
        return
    if not changes:
        dropped = migration.drop_old(client, name)
        if json:
            print_json({"name": name, "dropped": dropped})
        note(f"deleted {', '.join(dropped)}" if dropped else f"nothing to delete: {name!r} has one index")
        return
    layout = None if to is None else parse_layout(to)
    if repivot is not None and (top_k is not None or binary is not None):
        raise typer.BadParameter("--repivot keeps the numbers of words; it goes without --top-k and --binary")
    encoder = None
    if repivot is not None:
        encoder = migration.repivot_encoder(client, name, repivot)
    elif top_k is not None or binary is not None:
        encoder = _changed(SurrogateIndex.open(client, name).encoder, top_k=top_k, binary=binary)
    with progress("Copying") as report:
        done = migration.migrate(
            client,
            name,
            to=layout,
            encoder=encoder,
            shards=shards,
            dense_vector=dense_vector,
            sketch=sketch,
            drop=drop_old,
            on_progress=report,
        )
    _show(done, json=json)


def _changed(encoder: Encoder, *, top_k: int | None, binary: bool | None) -> Encoder:
    if not isinstance(encoder, DeepPermutation):
        raise InvalidInput(f"--top-k and --binary are for deep permutations; the index holds documents of {encoder}")
    return replace(
        encoder,
        top_k=encoder.top_k if top_k is None else top_k,
        binary=encoder.binary if binary is None else binary,
    )


def _show(report: MigrationReport, *, json: bool) -> None:
    if json:
        print_json(asdict(report))
        return
    if not report.old:
        note(f"{report.name!r} is as wanted already: {report.new}, {report.documents} documents")
    else:
        print(f"{report.name} → {report.new}  (was {report.old})")
        note(
            f"{report.documents} documents; {report.copied} copied, {report.skipped} were there already, "
            f"{report.deleted} removed; {report.scores} scores compared; writes were blocked for "
            f"{report.blocked_seconds:.1f} s"
        )
    if report.dropped:
        note(f"deleted {', '.join(report.dropped)}")
