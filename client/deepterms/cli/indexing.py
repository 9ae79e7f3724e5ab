"""deepterms index and search: descriptors into a cluster, and photographs out of it."""

from __future__ import annotations

import json as jsonlib
import os
import posixpath
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.encoder_options import EncoderName, EncoderOption, PresetChoice, PresetOption, encoder_for
from deepterms.cli.photos import (
    BackboneOption,
    LongestSideOption,
    SizesOption,
    WeightsOption,
    WhiteningOption,
    extract_folder,
    extractor_of,
    name_failures,
    whitening_of,
)
from deepterms.cli.terminal import note, print_json, print_table, progress
from deepterms.deployment import deploy
from deepterms.encoders.deep_permutation import DEFAULT_TOP_K
from deepterms.errors import CheckpointMismatch, EncoderMismatch, IndexNotFound, InvalidInput
from deepterms.index import DocumentBatch, SurrogateIndex
from deepterms.results import Failure, Hits, WriteReport
from deepterms.schema.vectors import StoreVectors
from deepterms.search.options import SearchKeywords

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore, RMACExtractor

__all__ = ["add_store", "hits_table", "index", "matching_extractor", "search"]

_FAILURES_SHOWN = 20


class Vectors(str, Enum):
    """What `--vectors` takes."""

    float32 = "float32"
    int8 = "int8"
    none = "none"


_STORE_VECTORS: Mapping[Vectors, StoreVectors] = {
    Vectors.float32: "float32",
    Vectors.int8: "int8",
    Vectors.none: False,
}


JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON a hit.")]


def index(
    name: Annotated[str, typer.Argument(help="The index; made if it does not exist.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of photographs, a feature store, a folder of clip-retrieval (img_emb, metadata), "
            "or a .npy of float32 (N, D).",
            exists=True,
        ),
    ],
    ids: Annotated[
        Path | None,
        typer.Option(help="For a .npy: its ids, one a line or a JSON list.", exists=True, show_default=False),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="For photographs: where descriptors go. Default: NAME-features.", show_default=False),
    ] = None,
    encoder: EncoderOption = EncoderName.components,
    preset: PresetOption = PresetChoice.balanced,
    top_k: Annotated[
        int, typer.Option(help="For --encoder components and quantized: K, codewords a document. For a new index.")
    ] = DEFAULT_TOP_K,
    layout: Annotated[
        str | None, typer.Option(help="frequencies or words. For a new index; default: the best.", show_default=False)
    ] = None,
    vectors: Annotated[
        Vectors,
        typer.Option(
            help="How descriptors are kept for exact re-ranking: float32, int8 (a quarter of the bytes, cosines off by "
            "about 1e-4), or none. For a new index."
        ),
    ] = Vectors.float32,
    dense_vector: Annotated[
        bool,
        typer.Option(
            "--dense-vector",
            help="Elasticsearch: float32 vectors once more in its own field, by which re-ranking is faster. For a new "
            "index.",
        ),
    ] = False,
    sketch: Annotated[
        bool | None,
        typer.Option(
            help="The signs of the vectors too, by which many candidates are compared in little time. For a new index; "
            "default: where that pays.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[int, typer.Option(help="For a new index.", min=1)] = 1,
    replicas: Annotated[
        int | None, typer.Option(help="For a new index; default: the engine's.", min=0, show_default=False)
    ] = None,
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    checkpoint: Annotated[
        bool,
        typer.Option(help="Skip what an earlier run had acknowledged, as noted in the feature store."),
    ] = True,
    url: UrlOption = None,
) -> None:
    """Index photographs or descriptors. Photographs are described into a feature store first, so a cut run goes on.

    Exit status 1 if a photograph or a document was left out; each is named.
    """
    from deepterms.features import EmbeddingFolder, FeatureStore, read_npy

    client = connect(url)
    unreadable = 0
    features: FeatureStore | EmbeddingFolder
    if source.is_file():
        if ids is None:
            raise typer.BadParameter("a .npy needs --ids, a file with one id a line")
        features = read_npy(source, ids)
    elif (source / "store.json").exists():
        features = FeatureStore.open(source)
    elif EmbeddingFolder.found_in(source):
        features = EmbeddingFolder.open(source)
    else:
        described = extractor_of(backbone, sizes, weights, whitening, longest_side=longest_side)
        report = extract_folder(described, source.resolve(), store or Path(f"{name}-features"))
        name_failures(report.failures)
        unreadable, features = len(report.failures), report.store
    extractor = features.spec or {}
    try:
        target = SurrogateIndex.open(client, name)
    except IndexNotFound:
        deploy(client)
        chosen = encoder_for(features, name=encoder, preset=preset, top_k=top_k)
        target = SurrogateIndex.create(
            client,
            name,
            encoder=chosen.encoder,
            rerank=chosen.rerank,
            layout=layout,
            store_vectors=_STORE_VECTORS[vectors],
            dense_vector=dense_vector,
            sketch=sketch,
            shards=shards,
            replicas=replicas,
            extractor=extractor,
        )
    if extractor and target.extractor and dict(extractor) != dict(target.extractor):
        raise EncoderMismatch(
            f"the index {name!r} holds descriptors of another extractor, which cannot be compared: "
            f"{_differences(target.extractor, extractor)}. Use that extractor, or another index"
        )
    result = add_store(target, features, checkpoint=_checkpoint(features, name) if checkpoint else None)
    target.refresh()
    _name_refused(result.failed)
    count = target.count()
    before = f" ({result.skipped} by an earlier run)" if result.skipped else ""
    note(
        f"{result.succeeded} indexed{before}, {len(result.failed)} rejected, {unreadable} unreadable; "
        f"{count} in {name!r}"
    )
    if result.skipped and count < result.succeeded:
        note("[yellow]some were deleted since; --no-checkpoint sends everything again[/yellow]")
    if result.failed or unreadable:
        sys.exit(1)


def search(
    name: Annotated[str, typer.Argument(help="The index.")],
    photo: Annotated[Path | None, typer.Argument(help="A photograph.", show_default=False)] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="Instead: a document of the index.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.", min=1)] = 10,
    rerank: Annotated[
        int | None,
        typer.Option(
            help="Candidates to re-rank by exact cosine; 0 for the paper's score.", min=0, show_default="the index's"
        ),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(help='A query of the engine as JSON: {"term": {"metadata.year": 2018}}', show_default=False),
    ] = None,
    effort: Annotated[
        float,
        typer.Option(help="The share of the query's codewords that is asked for, the largest first.", min=0, max=1),
    ] = 1.0,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out hits below this score.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="A field of the metadata to return, such as path; repeatable. Default: all.", show_default=False
        ),
    ] = None,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Find the photographs most similar to one."""
    if (photo is None) == (id is None):
        raise typer.BadParameter("give either a photograph or --id")
    try:
        chosen = None if filter is None else jsonlib.loads(filter)
    except ValueError as error:
        raise typer.BadParameter(f"--filter is not JSON: {error}") from error
    target = SurrogateIndex.open(connect(url), name)
    options: SearchKeywords = {
        "k": k,
        "rerank": rerank,
        "filter": chosen,
        "effort": effort,
        "min_score": min_score,
        "fields": field or None,
    }
    if id is not None:
        hits = target.search_by_id(id, **options)
    else:
        extractor = matching_extractor(target, weights, whitening)
        hits = target.search(extractor.extract([photo or ""])[0], **options)
    if hits.partial:
        note("[yellow]a shard failed or ran out of time: hits may be missing[/yellow]")
    if json:
        for rank, hit in enumerate(hits, start=1):
            print_json({"rank": rank, "id": hit.id, "score": hit.score, "metadata": dict(hit.metadata)})
    else:
        print_table(hits_table(hits))
        note(f"{len(hits)} hits of {target.count()} documents; the engine took {hits.took_ms:.0f} ms")


def hits_table(hits: Hits) -> Table:
    """Rank, score and path of each hit."""
    table = Table(box=None)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("path", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        score = f"{hit.score:.4f}" if hit.score <= 1 else f"{hit.score:,.0f}"
        table.add_row(str(rank), score, escape(str(hit.metadata.get("path", hit.id))))
    return table


def add_store(
    target: SurrogateIndex,
    features: FeatureStore | EmbeddingFolder,
    *,
    checkpoint: Path | None = None,
    about: Mapping[str, Mapping[str, Any]] | None = None,
) -> WriteReport:
    """Index what a feature store holds, with progress on stderr.

    A checkpoint of an index of this name that is gone, or was moved by a migration, is begun anew. `about` has further
    metadata by id.
    """
    left_out = {"size", "mtime_ns"}  # of a photograph's file

    def batches() -> Iterator[DocumentBatch]:
        for batch in features.batches():
            metadata = [
                {key: item[key] for key in item.keys() - left_out}
                | _folder(item_id, item)
                | dict((about or {}).get(item_id, {}))
                for item_id, item in zip(batch.ids, batch.items, strict=True)
            ]
            yield batch.ids, batch.features, metadata

    done = 0
    with progress("Indexing") as report:

        def add(count: int) -> None:
            nonlocal done
            done += count
            report(done, len(features))

        try:
            return target.add_batches(batches(), on_progress=add, checkpoint=checkpoint)
        except CheckpointMismatch as error:
            if checkpoint is None:
                raise
            note(f"[yellow]beginning anew:[/yellow] {escape(str(error))}")
            checkpoint.unlink()
            return target.add_batches(batches(), on_progress=add, checkpoint=checkpoint)


def _folder(id: str, item: Mapping[str, Any]) -> dict[str, str]:
    """Where below the photographs' own folder one is, as something to filter by."""
    parent = posixpath.dirname(id)
    return {"folder": parent} if parent and not posixpath.isabs(id) and "path" in item else {}


def _checkpoint(features: FeatureStore | EmbeddingFolder, name: str) -> Path | None:
    """Beside the descriptors, if they are in a store, and one that can be written to."""
    ours = (features.folder / "store.json").exists() and os.access(features.folder, os.W_OK)
    return features.folder / f"{name}.checkpoint" if ours else None


def matching_extractor(target: SurrogateIndex, weights: str, whitening: str) -> RMACExtractor:
    """The extractor that made the index's descriptors, rebuilt from its spec."""
    from deepterms.features import RMACExtractor

    spec = target.extractor
    if not spec:
        raise InvalidInput(
            f"the index {target.name!r} does not say what made its descriptors, so no photograph can be compared with "
            "them; search by --id, or from Python with a descriptor of your own"
        )
    extractor = RMACExtractor(
        spec["backbone"],
        sizes=spec["sizes"],
        side=spec["side"],
        levels=spec["levels"],
        weights=weights,
        whitening=None if spec["whitening"] is None else whitening_of(whitening),
    )
    if extractor.spec() != dict(spec):
        raise EncoderMismatch(
            f"this extractor is not the one of the index {target.name!r}: {_differences(spec, extractor.spec())}. "
            "Pass the same --weights and --whitening as when it was indexed"
        )
    return extractor


def _differences(held: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    keys = sorted(key for key in held.keys() | given.keys() if held.get(key) != given.get(key))
    return "; ".join(f"{key} is {held.get(key)!r} in the index, {given.get(key)!r} here" for key in keys)


def _name_refused(failed: tuple[Failure, ...]) -> None:
    for failure in failed[:_FAILURES_SHOWN]:
        note(f"[yellow]refused[/yellow] {escape(failure.id)}: {escape(failure.reason)}")
    if len(failed) > _FAILURES_SHOWN:
        note(f"[yellow]refused[/yellow] … and {len(failed) - _FAILURES_SHOWN} more")
