"""deepterms index: turns photographs or descriptors into documents of an index."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.encoder_options import EncoderName, EncoderOption, PresetChoice, PresetOption, build_encoder
from deepterms.cli.photos import (
    BackboneOption,
    LongestSideOption,
    SizesOption,
    WeightsOption,
    WhiteningOption,
    build_extractor,
    describe_differences,
    extract_folder,
    report_unreadable,
)
from deepterms.cli.terminal import note, progress
from deepterms.deployment import deploy
from deepterms.encoders.deep_permutation import DEFAULT_TOP_K
from deepterms.errors import CheckpointMismatch, EncoderMismatch, IndexNotFound
from deepterms.index import DocumentBatch, SurrogateIndex
from deepterms.results import Failure, WriteReport
from deepterms.schema.vectors import StoreVectors

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["add_store", "index"]

_MAX_REPORTED = 20


class Vectors(str, Enum):
    """Values of `--vectors`."""

    float32 = "float32"
    int8 = "int8"
    none = "none"


_STORE_VECTORS: Mapping[Vectors, StoreVectors] = {
    Vectors.float32: "float32",
    Vectors.int8: "int8",
    Vectors.none: False,
}


def index(
    name: Annotated[str, typer.Argument(help="The index; created if it does not exist.")],
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of photographs, a feature store, an embedding folder of clip-retrieval (img_emb, metadata), "
            "or a .npy file of float32 (N, D).",
            exists=True,
        ),
    ],
    ids: Annotated[
        Path | None,
        typer.Option(
            help="For a .npy file: its ids, as a text file with one id per line or a JSON list.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="For photographs: the feature store for their descriptors. Default: NAME-features.", show_default=False
        ),
    ] = None,
    encoder: EncoderOption = EncoderName.components,
    preset: PresetOption = PresetChoice.balanced,
    top_k: Annotated[
        int,
        typer.Option(
            help="For --encoder components and quantized: K, the number of codewords per document. For a new index."
        ),
    ] = DEFAULT_TOP_K,
    layout: Annotated[
        str | None,
        typer.Option(
            help="frequencies, words, rank_features or codewords. For a new index. Default: the best that the engine "
            "and the encoder support.",
            show_default=False,
        ),
    ] = None,
    vectors: Annotated[
        Vectors,
        typer.Option(
            help="How descriptors are stored for exact re-ranking: float32, int8 (a quarter of the bytes; cosines are "
            "off by about 1e-4), or none. For a new index."
        ),
    ] = Vectors.float32,
    dense_vector: Annotated[
        bool,
        typer.Option(
            "--dense-vector",
            help="Elasticsearch: also store float32 vectors in a dense_vector field, which makes re-ranking faster. "
            "For a new index.",
        ),
    ] = False,
    sketch: Annotated[
        bool | None,
        typer.Option(
            help="Also store a sketch of each vector, its sign bits (binary quantization), which compares many "
            "candidates quickly. For a new index. Default: where it pays off.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[int, typer.Option(help="Number of shards. For a new index.", min=1)] = 1,
    replicas: Annotated[
        int | None,
        typer.Option(help="Number of replicas. For a new index. Default: the engine's.", min=0, show_default=False),
    ] = None,
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
    checkpoint: Annotated[
        bool,
        typer.Option(
            help="Skip documents that an earlier run indexed, according to a checkpoint in the feature store."
        ),
    ] = True,
    url: UrlOption = None,
) -> None:
    """Index photographs or descriptors.

    Photographs are first described into a feature store; rerun to resume after an interruption. Exits with status 1 if
    a photograph was unreadable or a document was rejected; each is reported.
    """
    from deepterms.features import EmbeddingFolder, FeatureStore, read_npy

    client = connect(url)
    unreadable = 0
    features: FeatureStore | EmbeddingFolder
    if source.is_file():
        if ids is None:
            raise typer.BadParameter("a .npy file needs --ids, a file with one id per line")
        features = read_npy(source, ids)
    elif (source / "store.json").exists():
        features = FeatureStore.open(source)
    elif EmbeddingFolder.found_in(source):
        features = EmbeddingFolder.open(source)
    else:
        photo_extractor = build_extractor(backbone, sizes, weights, whitening, longest_side=longest_side)
        report = extract_folder(photo_extractor, source.resolve(), store or Path(f"{name}-features"))
        report_unreadable(report.failures)
        unreadable, features = len(report.failures), report.store
    extractor = features.spec or {}
    try:
        target = SurrogateIndex.open(client, name)
    except IndexNotFound:
        deploy(client)
        chosen = build_encoder(features, name=encoder, preset=preset, top_k=top_k)
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
            f"the index {name!r} holds descriptors of another extractor, which cannot be compared with these: "
            f"{describe_differences(target.extractor, extractor)}. Use that extractor, or another index"
        )
    result = add_store(target, features, checkpoint=_checkpoint_file(features, name) if checkpoint else None)
    target.refresh()
    _report_rejected(result.failed)
    count = target.count()
    before = f" ({result.skipped} by an earlier run)" if result.skipped else ""
    note(
        f"{result.succeeded} indexed{before}, {len(result.failed)} rejected, {unreadable} unreadable; "
        f"{count} in {name!r}"
    )
    if result.skipped and count < result.succeeded:
        note("[yellow]some have been deleted since; --no-checkpoint indexes everything again[/yellow]")
    if result.failed or unreadable:
        sys.exit(1)


def add_store(
    target: SurrogateIndex,
    features: FeatureStore | EmbeddingFolder,
    *,
    checkpoint: Path | None = None,
    about: Mapping[str, Mapping[str, Any]] | None = None,
) -> WriteReport:
    """Index the contents of a feature store, with progress on stderr.

    A checkpoint of an index that has since been deleted or migrated is discarded, and indexing starts over.

    Args:
        target: the index.
        features: the descriptors, with their ids and metadata.
        checkpoint: file that records what was indexed.
        about: id → further metadata of its document.
    """
    left_out = {"size", "mtime_ns"}  # of the photograph's file

    def batches() -> Iterator[DocumentBatch]:
        for batch in features.batches():
            metadata = [
                {key: item[key] for key in item.keys() - left_out}
                | _folder_metadata(item_id, item)
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
            note(f"[yellow]starting over:[/yellow] {escape(str(error))}")
            checkpoint.unlink()
            return target.add_batches(batches(), on_progress=add, checkpoint=checkpoint)


def _folder_metadata(id: str, item: Mapping[str, Any]) -> dict[str, str]:
    """Return the folder of a photograph, relative to the folder of all of them, as metadata to filter by."""
    parent = posixpath.dirname(id)
    return {"folder": parent} if parent and not posixpath.isabs(id) and "path" in item else {}


def _checkpoint_file(features: FeatureStore | EmbeddingFolder, name: str) -> Path | None:
    """Return the checkpoint's path inside the feature store, or None unless `features` is a writable one."""
    is_writable_store = (features.folder / "store.json").exists() and os.access(features.folder, os.W_OK)
    return features.folder / f"{name}.checkpoint" if is_writable_store else None


def _report_rejected(failed: tuple[Failure, ...]) -> None:
    for failure in failed[:_MAX_REPORTED]:
        note(f"[yellow]rejected[/yellow] {escape(failure.id)}: {escape(failure.reason)}")
    if len(failed) > _MAX_REPORTED:
        note(f"[yellow]rejected[/yellow] … and {len(failed) - _MAX_REPORTED} more")
