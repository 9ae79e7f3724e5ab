"""Turn Figure 1 into files (JSON, CSV, plots), and a folder of results back into JSON values."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.paper.drawing import draw_figure1
from deepterms.paper.figure1 import Figure1
from deepterms.paper.tables.machine import describe_machine

__all__ = ["KINDS", "build_figure1_result", "read_results", "write_figure1"]

KINDS = ("figure1", "table1", "table2")
LIBRARIES = ("numpy", "scipy", "faiss-cpu", "matplotlib", "torch")  # whose versions can affect a result


def build_figure1_result(measured: Figure1, *, command: str) -> dict[str, Any]:
    """Combine the measured figure with its command, machine and library versions as plain JSON values.

    Args:
        measured: the figure.
        command: that reproduces it.
    """
    return {
        "kind": "figure1",
        "deepterms": version("deepterms"),
        "versions": {name: found for name in LIBRARIES if (found := _find_version(name)) is not None},
        "machine": describe_machine(),
        "command": command,
        **measured.to_json(),
    }


def write_figure1(result: Mapping[str, Any], folder: Path, *, name: str = "figure1") -> list[Path]:
    """Write a result as JSON, its points as CSV, and the figure as SVG and PNG.

    Args:
        result: as returned by `build_figure1_result`.
        folder: created if missing.
        name: of the files, without suffix.

    Returns:
        The four files.

    Raises:
        MissingExtra: matplotlib is not installed; the JSON and CSV files have been written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_csv, *pictures = (folder / f"{name}.{suffix}" for suffix in ("json", "csv", "svg", "png"))
    as_json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with as_csv.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(result["points"][0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(result["points"])
    for picture in pictures:
        draw_figure1(result, picture)
    return [as_json, as_csv, *pictures]


def read_results(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Read all results in a folder as kind → file name without suffix → content; other JSON files are ignored.

    Raises:
        InvalidInput: the folder does not exist, a file is not valid JSON, or there is no result.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; `deepterms paper figure1` creates one")
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidInput(f"{path} is damaged: {error}; measure it again or delete the file") from error
        if isinstance(content, dict) and content.get("kind") in found:
            found[content["kind"]][path.stem] = content
    if not any(found.values()):
        raise InvalidInput(f"{folder} contains no results; `deepterms paper figure1` writes one")
    return found


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
