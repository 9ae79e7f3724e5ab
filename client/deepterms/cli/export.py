"""deepterms export: copies the descriptors of an index to a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepterms.cli.connection import UrlOption, open_index
from deepterms.cli.terminal import note, progress
from deepterms.index.export import export_features

__all__ = ["export"]


def export(
    name: Annotated[str, typer.Argument(help="The index.")],
    store: Annotated[Path, typer.Argument(help="The feature store to create; the folder must not exist.")],
    url: UrlOption = None,
) -> None:
    """Export an index's descriptors to a feature store, from which `deepterms index` can fill another index."""
    index = open_index(url, name)
    done, total = 0, index.count()
    with progress("Exporting") as report:

        def add(count: int) -> None:
            nonlocal done
            done += count
            report(done, total)

        exported = export_features(index, store, on_progress=add)
    note(f"{len(exported)} descriptors of {exported.dimensions} dimensions in {store}")
