"""deepterms migrate: moves an index to another layout, version or encoder behind the same name."""

from __future__ import annotations

from dataclasses import asdict, replace
from enum import Enum
from typing import Annotated

import typer

from deepterms import migration
from deepterms.cli.comparison_options import CompareChoice
from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.schema_options import FieldTypesOption, SchemaOption, read_schema
from deepterms.cli.terminal import note, print_json, progress
from deepterms.encoders.deep_permutation import DeepPermutation
from deepterms.encoders.encoder import Encoder
from deepterms.errors import InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.migration import MigrationReport, parse_layout

__all__ = ["migrate"]


class SpillChoice(str, Enum):
    """Values of `--spill`."""

    nearest = "nearest"
    soar = "soar"


def migrate(
    name: Annotated[str, typer.Argument(help="The index.")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Target layout, such as words, or words-v2 for a version. Default: the current one.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="New K, the number of codewords per document; terms are rebuilt from the stored vectors.",
            min=1,
            show_default=False,
        ),
    ] = None,
    binary: Annotated[
        bool | None,
        typer.Option(
            help="Index codewords without or with their ranks; terms are rebuilt from the stored vectors.",
            show_default=False,
        ),
    ] = None,
    repivot: Annotated[
        int | None,
        typer.Option(
            help="Sample this many new pivots from the stored vectors, and rebuild the terms.",
            min=1,
            metavar="COUNT",
            show_default=False,
        ),
    ] = None,
    spill: Annotated[
        SpillChoice | None,
        typer.Option(
            help="Which pivots documents name: the nearest, or near ones in different directions (soar), which find "
            "more; terms are rebuilt from the stored vectors.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Number of shards of the new index. Default: as now.", min=1, show_default=False)
    ] = None,
    compare: Annotated[
        CompareChoice | None,
        typer.Option(
            help="native: Elasticsearch's vector field, which rounds float32 vectors to int8. script: compare only the "
            "best candidates. Default: as now.",
            show_default=False,
        ),
    ] = None,
    sketch: Annotated[
        bool | None,
        typer.Option(
            help="With or without sketches, the sign bits of the vectors (binary quantization), which compare many "
            "candidates quickly.",
            show_default=False,
        ),
    ] = None,
    schema: SchemaOption = None,
    field: FieldTypesOption = None,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old/--keep",
            help="Delete the indices that NAME no longer points to: after migrating or, without other options, now.",
        ),
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Point NAME back to the index it was migrated from.")
    ] = False,
    discard_writes: Annotated[
        bool,
        typer.Option("--discard-writes", help="With --rollback: discard what was written since the migration."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    url: UrlOption = None,
) -> None:
    """Move an index to another layout, version, encoder or schema while it is in use.

    At the end, NAME points to the new index; the old one is kept for --rollback until --drop-old. Rerun to resume after
    an interruption. While the last writes are copied, for about a second, the cluster rejects writes with status 403;
    `deepterms index` waits and retries.
    """
    options = (to, top_k, binary, repivot, spill, shards, compare, sketch, schema, field or None)
    changes = any(option is not None for option in options)
    if (rollback and (changes or drop_old)) or (discard_writes and not rollback):
        raise typer.BadParameter("--rollback can only be combined with --discard-writes, and that only with --rollback")
    if not changes and not rollback and not drop_old:
        raise typer.BadParameter(
            "nothing to do; pass --to, --top-k, --binary, --repivot, --spill, --shards, --compare, --sketch, --schema, "
            "--field, --rollback or --drop-old"
        )
    declared = read_schema(schema, field)
    client = connect(url)
    if rollback:
        _show(migration.roll_back(client, name, discard_writes=discard_writes), json=json)
        return
    if not changes:
        dropped = migration.drop_old(client, name)
        if json:
            print_json({"name": name, "dropped": dropped})
        note(f"deleted {', '.join(dropped)}" if dropped else f"nothing to delete: {name!r} has only one index")
        return
    layout = None if to is None else parse_layout(to)
    if (repivot is not None or spill is not None) and (top_k is not None or binary is not None):
        raise typer.BadParameter(
            "--repivot and --spill keep the number of words per document; they cannot be combined with --top-k or "
            "--binary"
        )
    encoder = None
    if repivot is not None:
        encoder = migration.repivot_encoder(client, name, repivot, spill=None if spill is None else spill.value)
    elif spill is not None:
        encoder = migration.respill_encoder(client, name, spill.value)
    elif top_k is not None or binary is not None:
        encoder = _change_encoder(SurrogateIndex.open(client, name).encoder, top_k=top_k, binary=binary)
    with progress("Copying") as report:
        done = migration.migrate(
            client,
            name,
            to=layout,
            encoder=encoder,
            shards=shards,
            compare=None if compare is None else compare.value,
            sketch=sketch,
            schema=declared,
            drop=drop_old,
            on_progress=report,
        )
    _show(done, json=json)


def _change_encoder(encoder: Encoder, *, top_k: int | None, binary: bool | None) -> Encoder:
    if not isinstance(encoder, DeepPermutation):
        raise InvalidInput(f"--top-k and --binary require deep permutations; the encoder of the index is {encoder}")
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
        note(f"{report.name!r} is already as requested: {report.new}, {report.documents} documents")
    else:
        print(f"{report.name} → {report.new}  (was {report.old})")
        note(
            f"{report.documents} documents; {report.copied} copied, {report.skipped} already there, "
            f"{report.deleted} removed; {report.scores} scores compared; writes were blocked for "
            f"{report.blocked_seconds:.1f} s"
        )
    if report.dropped:
        note(f"deleted {', '.join(report.dropped)}")
