"""Builds the photo collection in a folder named on the command line, with a progress bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from deepterms.errors import DeepTermsError
from deepterms.evaluation import OnProgress, build_photos, training_photos

Built = TypeVar("Built")


def main() -> int:
    """Build the requested folders, and return the exit status: 1 if one cannot be built."""
    parser = argparse.ArgumentParser(prog="scripts/build_photos", description="Builds the photo collection.")
    parser.add_argument("folder", type=Path, help="folder for the collection: new, empty, or built by this script")
    parser.add_argument("--training", type=Path, metavar="FOLDER", help="photographs to learn a whitening from")
    arguments = parser.parse_args()
    try:
        collection = with_progress(lambda report: build_photos(arguments.folder, on_progress=report))
        training = None
        if arguments.training is not None:
            training = with_progress(lambda report: training_photos(arguments.training, on_progress=report))
    except DeepTermsError as error:
        print(error, file=sys.stderr)
        return 1
    for sentence in collection.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    print(
        f"{arguments.folder}: {len(collection.ids)} photographs, {len(collection.queries)} queries, "
        f"{len(collection.natural_queries)} of them with independent photographs as matches"
    )
    if training is not None:
        print(f"{arguments.training}: {len(training)} photographs")
    return 0


def with_progress(build: Callable[[OnProgress], Built]) -> Built:
    """Run a function that reports progress, with a progress bar on stderr."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photographs", total=None)
        return build(lambda done, total, what: progress.update(task, completed=done, total=total, description=what))


if __name__ == "__main__":
    sys.exit(main())
