"""deepterms extract and fit-whitening: turns photographs into descriptors, without a cluster."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deepterms.cli.terminal import note, note_each, progress
from deepterms.errors import UnreadableImage

if TYPE_CHECKING:
    from deepterms.features import PCAWhitening, RMACExtractor, StoreReport
    from deepterms.features.images import FoundImages

__all__ = [
    "BackboneOption",
    "LongestSideOption",
    "SizesOption",
    "WeightsOption",
    "WhiteningOption",
    "build_extractor",
    "describe_differences",
    "extract",
    "extract_folder",
    "fit_whitening",
    "load_whitening",
    "report_skipped",
    "report_unreadable",
]

BackboneOption = Annotated[str, typer.Option(help="efficientnet_lite0, or resnet101 as in the paper.")]
SizesOption = Annotated[
    str | None,
    typer.Option(
        help="Lengths of the shorter side in pixels, such as 550,800,1050. Default: the backbone's.", show_default=False
    ),
]
LongestSideOption = Annotated[bool, typer.Option("--longest-side", help="Apply --sizes to the longer side.")]
WeightsOption = Annotated[
    str, typer.Option(help="imagenet, random, or a file: a torchvision state dict, or a checkpoint of Gordo et al.")
]
WhiteningOption = Annotated[
    str, typer.Option(help="default (shipped for the backbone), none, or a file written by `deepterms fit-whitening`.")
]


def build_extractor(
    backbone: str, sizes: str | None, weights: str, whitening: str, *, longest_side: bool = False
) -> RMACExtractor:
    """Build the extractor that these options describe."""
    from deepterms.features import RMACExtractor

    try:
        lengths = None if sizes is None else [int(size) for size in sizes.split(",")]
    except ValueError as error:
        raise typer.BadParameter("--sizes takes comma-separated whole numbers, such as 550,800,1050") from error
    return RMACExtractor(
        backbone,
        sizes=lengths,
        side="max" if longest_side else "min",
        weights=weights,
        whitening=load_whitening(whitening),
    )


def load_whitening(option: str) -> PCAWhitening | Literal["default"] | None:
    """Load the whitening that `--whitening` names."""
    from deepterms.features import PCAWhitening

    if option == "default":
        return "default"
    return None if option == "none" else PCAWhitening.load(option)


def extract_folder(extractor: RMACExtractor, photos: Path, store: Path) -> StoreReport:
    """Describe the photographs that the store does not hold yet, with progress on stderr."""
    from deepterms.features import extract_to_store

    found = _find_photos(photos)
    with progress("Describing photographs") as report:
        return extract_to_store(extractor, found, store, root=photos, on_progress=report)


def report_unreadable(failures: tuple[UnreadableImage, ...] | list[UnreadableImage]) -> None:
    """List the photographs that could not be read on stderr."""
    note_each("[yellow]unreadable[/yellow]", list(map(str, failures)))


def report_skipped(count: int) -> None:
    """Print how many pictures `find_images` has left out, unless there were none."""
    if count:
        note(f"{count} skipped: hidden pictures, thumbnails and deleted ones")


def describe_differences(held: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Describe where the spec of an extractor differs from the one recorded in an index."""
    keys = sorted(key for key in held.keys() | given.keys() if held.get(key) != given.get(key))
    return "; ".join(f"{key} is {held.get(key)!r} in the index, but {given.get(key)!r} here" for key in keys)


def extract(
    photos: Annotated[Path, typer.Argument(help="A folder of photographs.", exists=True, file_okay=False)],
    store: Annotated[
        Path, typer.Argument(help="The feature store to write; new photographs are added to an existing one.")
    ],
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
    whitening: WhiteningOption = "default",
) -> None:
    """Describe the photographs of a folder.

    Rerun to resume after an interruption. Exits with status 1 if any photograph is unreadable; each is reported here
    and in STORE/failures.jsonl.
    """
    report = extract_folder(
        build_extractor(backbone, sizes, weights, whitening, longest_side=longest_side), photos.resolve(), store
    )
    report_unreadable(report.failures)
    note(
        f"{report.added} described, {report.skipped} already in the store, {len(report.failures)} unreadable; "
        f"{len(report.store)} in {store}"
    )
    if report.changed:
        note(
            f"[yellow]{len(report.changed)} files have changed since they were described;[/yellow] "
            "describe them again into a new store"
        )
    if report.failures:
        sys.exit(1)


def fit_whitening(
    photos: Annotated[
        Path, typer.Argument(help="A folder of several hundred photographs.", exists=True, file_okay=False)
    ],
    file: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    dimensions: Annotated[
        int | None, typer.Option(help="Number of dimensions to keep. Default: all.", show_default=False)
    ] = None,
    backbone: BackboneOption = "efficientnet_lite0",
    sizes: SizesOption = None,
    longest_side: LongestSideOption = False,
    weights: WeightsOption = "imagenet",
) -> None:
    """Learn a PCA whitening from photographs other than those to be searched."""
    from deepterms.errors import UnreadableImages

    extractor = build_extractor(backbone, sizes, weights, "none", longest_side=longest_side)
    paths: list[Path] = _find_photos(photos)
    try:
        whitening = extractor.fit_whitening(paths, dimensions=dimensions)
    except UnreadableImages as error:
        report_unreadable(error.failures)
        broken = {failure.path for failure in error.failures}
        paths = [path for path in paths if path not in broken]
        whitening = extractor.fit_whitening(paths, dimensions=dimensions)
    whitening.save(file)
    note(
        f"{file}: {whitening.channels} channels to {whitening.dimensions} dimensions, "
        f"learned from {len(paths)} photographs"
    )


def _find_photos(folder: Path) -> FoundImages:
    """Find the photographs of a folder, and print how many files were skipped."""
    from deepterms.features import find_images

    found = find_images(folder)
    report_skipped(found.skipped)
    return found
