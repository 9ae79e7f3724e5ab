"""deepterms index: turns photographs or descriptors into documents of an index."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepterms.cli.comparison_options import CompareOption
from deepterms.cli.connection import UrlOption, connect
from deepterms.cli.encoder_options import EncoderName, EncoderOption, RecallOption, build_encoder
from deepterms.cli.folders import forget_photographs, sync_photographs
from deepterms.cli.photos import (
    BackboneOption,
    LongestSideOption,
    SizesOption,
    WeightsOption,
    WhiteningOption,
    build_extractor,
    describe_differences,
)
from deepterms.cli.schema_options import FieldLimitOption, FieldTypesOption, SchemaOption, read_schema
from deepterms.cli.store_indexing import add_store
from deepterms.cli.terminal import note, note_each
from deepterms.deployment import deploy
from deepterms.encoders.deep_permutation import DEFAULT_TOP_K
from deepterms.errors import EncoderMismatch, IndexNotFound, InvalidInput
from deepterms.index import SurrogateIndex
from deepterms.schema.metadata_schema import change_schema
from deepterms.schema.vectors import StoreVectors

if TYPE_CHECKING:
    from deepterms.features import EmbeddingFolder, FeatureStore

__all__ = ["index"]


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
    recall: RecallOption = None,
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
        Vectors | None,
        typer.Option(
            help="How descriptors are stored for exact re-ranking: float32, int8 (a quarter of the bytes; cosines are "
            "off by about 1e-4), or none. For a new index. Default: int8 with --compare native, otherwise float32.",
            show_default=False,
        ),
    ] = None,
    compare: CompareOption = None,
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
    schema: SchemaOption = None,
    field: FieldTypesOption = None,
    field_limit: FieldLimitOption = None,
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
    delete_missing: Annotated[
        bool,
        typer.Option(
            "--delete-missing",
            help="For photographs: also delete those from the index that no longer exist in the folder. Default: they "
            "are only listed.",
        ),
    ] = False,
    delete_folder: Annotated[
        bool,
        typer.Option(
            "--delete-folder",
            help="Instead of indexing: delete all photographs of this folder from the index and the feature store. The "
            "folder need not exist any more, and its files are left alone.",
        ),
    ] = False,
    url: UrlOption = None,
) -> None:
    """Index photographs or descriptors.

    Photographs are first described into a feature store; rerun to resume after an interruption, or to index what has
    been added, changed or moved since. An id is the path relative to the folder; ids of any further folder get a prefix
    made of its name and a hash of its path. Exits with status 1 if a photograph was unreadable or a document was
    rejected; each is reported.
    """
    from deepterms.features import EmbeddingFolder, FeatureStore, read_npy

    is_photos = source.is_dir() and not (source / "store.json").exists() and not EmbeddingFolder.found_in(source)
    if not source.exists() and not delete_folder:
        raise typer.BadParameter(f"{source} does not exist")
    if delete_missing and (delete_folder or not is_photos):
        raise typer.BadParameter("--delete-missing is for indexing a folder of photographs")
    declared = read_schema(schema, field)
    client = connect(url)
    unreadable = 0
    features: FeatureStore | EmbeddingFolder
    target = SurrogateIndex.open(client, name) if delete_folder else _open_existing(client, name)
    if target is not None and change_schema(target.spec.schema, declared or {}) != target.spec.schema:
        raise InvalidInput(f"the index {name!r} declares other fields; change them with: deepterms migrate --schema")
    if delete_folder:
        features = forget_photographs(source, store or Path(f"{name}-features"))
    elif is_photos:
        photo_extractor = build_extractor(backbone, sizes, weights, whitening, longest_side=longest_side)
        _check_extractor(target, photo_extractor.spec())
        report = sync_photographs(
            photo_extractor,
            source,
            store or Path(f"{name}-features"),
            target=target,
            delete_missing=delete_missing,
        )
        unreadable, features = len(report.failures), report.store
    elif source.is_file():
        if ids is None:
            raise typer.BadParameter("a .npy file needs --ids, a file with one id per line")
        features = read_npy(source, ids)
    elif (source / "store.json").exists():
        features = FeatureStore.open(source)
    else:
        features = EmbeddingFolder.open(source)
    extractor = features.spec or {}
    _check_extractor(target, extractor)
    if target is None:
        deploy(client)
        target = SurrogateIndex.open_or_create(  # another command may be creating it
            client,
            name,
            **build_encoder(features, name=encoder, recall=recall, top_k=top_k),
            layout=layout,
            store_vectors=True if vectors is None else _STORE_VECTORS[vectors],
            compare=None if compare is None else compare.value,
            sketch=sketch,
            shards=shards,
            replicas=replicas,
            field_limit=field_limit,
            extractor=extractor,
            schema=declared,
        )
    result = add_store(target, features, checkpoint=_checkpoint_file(features, name) if checkpoint else None)
    target.refresh()
    note_each("[yellow]rejected[/yellow]", [f"{failure.id}: {failure.reason}" for failure in result.failed])
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


def _open_existing(client: Any, name: str) -> SurrogateIndex | None:
    try:
        return SurrogateIndex.open(client, name)
    except IndexNotFound:
        return None


def _check_extractor(target: SurrogateIndex | None, extractor: Mapping[str, Any]) -> None:
    """Reject descriptors that cannot be compared with those of the index."""
    given = json.loads(json.dumps(dict(extractor)))  # a tuple equals the list that it was stored as
    if target is not None and given and target.extractor and given != dict(target.extractor):
        raise EncoderMismatch(
            f"the index {target.name!r} holds descriptors of another extractor, which cannot be compared with these: "
            f"{describe_differences(target.extractor, given)}. Use that extractor, or another index"
        )


def _checkpoint_file(features: FeatureStore | EmbeddingFolder, name: str) -> Path | None:
    """Return the checkpoint's path inside the feature store, or None unless `features` is a writable one."""
    is_writable_store = (features.folder / "store.json").exists() and os.access(features.folder, os.W_OK)
    return features.folder / f"{name}.checkpoint" if is_writable_store else None
