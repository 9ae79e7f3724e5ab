"""deepterms extract and fit-whitening: photographs to descriptors, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from deepterms.cli.terminal import note, progress
from deepterms.errors import UnreadableImage

if TYPE_CHECKING:
    from deepterms.features import PCAWhitening, RMACExtractor, StoreReport

__all__ = [
    "BackboneOption",
    "LongestSideOption",
    "SizesOption",
    "WeightsOption",
    "WhiteningOption",
    "extract",
    "extract_folder",
    "extractor_of",
    "fit_whitening",
    "name_failures",
    "whitening_of",
]

BackboneOption = Annotated[str, typer.Option(help="efficientnet_lite0, or resnet101 as in the paper.")]
SizesOption = Annotated[
    str | None,
    typer.Option(
        help="Lengths of the shorter side in pixels, such as 550,800,1050. Default: the backbone's.", show_default=False
    ),
]
LongestSideOption = Annotated[bool, typer.Option("--longest-side", help="--sizes speak of the longer side.")]
WeightsOption = Annotated[
    str, typer.Option(help="imagenet, random, or a file: torchvision's state dict, a checkpoint of Gordo et al.")
]
WhiteningOption = Annotated[
    str, typer.Option(help="default (shipped with the backbone), none, or a file of `deepterms fit-whitening`.")
]

_FAILURES_SHOWN = 20


def extractor_of(
    backbone: str, sizes: str | None, weights: str, whitening: str, *, longest_side: bool = False
) -> RMACExtractor:
    """The extractor that these options describe."""
    from deepterms.features import RMACExtractor

    try:
        lengths = None if sizes is None else [int(size) for size in sizes.split(",")]
    except ValueError as error:
        raise typer.BadParameter("--sizes takes whole numbers with commas between, such as 550,800,1050") from error
    return RMACExtractor(
        backbone,
        sizes=lengths,
        side="max" if longest_side else "min",
        weights=weights,
        whitening=whitening_of(whitening),
    )


def whitening_of(option: str) -> PCAWhitening | Literal["default"] | None:
    """The whitening that `--whitening` names."""
    from deepterms.features import PCAWhitening

    if option == "default":
        return "default"
    return None if option == "none" else PCAWhitening.load(option)


def extract_folder(extractor: RMACExtractor, photos: Path, store: Path) -> StoreReport:
    """Describe what the store does not hold yet, with progress on stderr."""
    from deepterms.features import extract_to_store

    with progress("Describing photographs") as report:
        return extract_to_store(extractor, photos, store, on_progress=report)


def name_failures(failures: tuple[UnreadableImage, ...] | list[UnreadableImage]) -> None:
    """List photographs that could not be read."""
    for failure in failures[:_FAILURES_SHOWN]:
        note(f"[yellow]unreadable[/yellow] {escape(str(failure))}")
    if len(failures) > _FAILURES_SHOWN:
        note(f"[yellow]unreadable[/yellow] … and {len(failures) - _FAILURES_SHOWN} more")


def extract(
    photos: Annotated[Path, typer.Argument(help="A folder of photographs.", exists=True, file_okay=False)],
    store: Annotated[Path, typer.Argument(help="The feature store to write; an existing one is added to.")],
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
) -> None:
    """Describe the photographs of a folder; a run that was cut goes on where it was.

    Exit status 1 if some could not be read; they are named here and in STORE/failures.jsonl.
    """
    report = extract_folder(
        extractor_of(backbone, sizes, weights, whitening, longest_side=longest_side), photos.resolve(), store
    )
    name_failures(report.failures)
    note(
        f"{report.added} described, {report.skipped} were there already, {len(report.failures)} unreadable; "
        f"{len(report.store)} in {store}"
    )
    if report.changed:
        note(f"[yellow]{len(report.changed)} files have changed since they were described;[/yellow] write a new store")
    if report.failures:
        sys.exit(1)


def fit_whitening(
    photos: Annotated[
        Path, typer.Argument(help="A folder of several hundred photographs.", exists=True, file_okay=False)
    ],
    file: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    dimensions: Annotated[
        int | None, typer.Option(help="Length of the whitened descriptors. Default: all.", show_default=False)
    ] = None,
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
) -> None:
    """Learn a PCA whitening from photographs unlike those that will be searched."""
    from deepterms.errors import UnreadableImages
    from deepterms.features import find_images

    extractor = extractor_of(backbone, sizes, weights, "none", longest_side=longest_side)
    paths = find_images(photos)
    try:
        whitening = extractor.fit_whitening(paths, dimensions=dimensions)
    except UnreadableImages as error:
        name_failures(error.failures)
        broken = {failure.path for failure in error.failures}
        paths = [path for path in paths if path not in broken]
        whitening = extractor.fit_whitening(paths, dimensions=dimensions)
    whitening.save(file)
    note(
        f"{file}: {whitening.channels} channels to {whitening.dimensions} dimensions, "
        f"learned from {len(paths)} photographs"
    )
