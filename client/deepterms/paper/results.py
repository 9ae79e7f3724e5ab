"""Results on the disk: what a run measured and on what, as JSON, as a table and as pictures; and reading them again."""

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
from deepterms.paper.tables.machine import machine

__all__ = ["KINDS", "figure1_result", "read_results", "write_figure1"]

KINDS = ("figure1", "table1", "table2")
LIBRARIES = ("numpy", "scipy", "faiss-cpu", "matplotlib", "torch")  # of which a result may depend


def figure1_result(measured: Figure1, *, command: str) -> dict[str, Any]:
    """The whole of a run, as plain JSON.

    Args:
        measured: the curves.
        command: that gives it again.
    """
    return {
        "kind": "figure1",
        "deepterms": version("deepterms"),
        "versions": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
        "machine": machine(),
        "command": command,
        **measured.to_json(),
    }


def write_figure1(result: Mapping[str, Any], folder: Path, *, name: str = "figure1") -> list[Path]:
    """Write a result as JSON, its points as CSV, and the figure as SVG and PNG.

    Args:
        result: of `figure1_result`.
        folder: made if it is not there.
        name: of the files.

    Returns:
        The four files.

    Raises:
        MissingExtra: matplotlib is not installed; the JSON and the CSV are written by then.
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
    """All results in a folder: kind → name of the file without its suffix → what it holds. Other JSON is left alone.

    Raises:
        InvalidInput: no such folder, a file that is not JSON, or none that is a result.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; `deepterms paper figure1` writes one")
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidInput(f"{path} is damaged: {error}; measure it again, or take it away") from error
        if isinstance(content, dict) and content.get("kind") in found:
            found[content["kind"]][path.stem] = content
    if not any(found.values()):
        raise InvalidInput(f"{folder} holds no result; `deepterms paper figure1` writes one")
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
