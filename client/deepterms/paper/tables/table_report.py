"""Report: what a table's run says of itself and its rows, as JSON, as Markdown and as cells of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.paper.tables.machine import machine, measured_on

__all__ = ["cells", "headers", "markdown", "report", "write_report"]

Column = tuple[str, str, Callable[[Any], str]]  # what stands above, key of a row, how a value is written


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


_TIMES: list[Column] = [(f"{name} ms", f"{name}_ms", _ms) for name in ("mean", "p50", "p95", "p99")]
COLUMNS: Mapping[str, list[Column]] = {
    "table1": [
        ("K", "top_k", _whole),
        *_TIMES,
        ("paper ms (1M)", "paper_ms", _ms),
        ("postings", "postings", _whole),
        ("ns a posting", "ns_per_posting", _ms),
        ("limit ms", "limit_ms", _ms),
        ("limit ns a posting", "limit_ns_per_posting", _ms),
        ("times the limit", "ratio_to_limit", lambda value: f"{value:.1f}"),
        ("MB", "bytes", lambda value: f"{value / 1e6:,.0f}"),
    ],
    "table2": [
        ("nodes", "nodes", _whole),
        ("shares", "shares", _whole),
        ("documents", "documents", _whole),
        ("nodes a core", "nodes_per_core", _whole),
        *_TIMES,
        ("paper ms (1M a share)", "paper_ms", _ms),
        ("model, here", "model_ms", _ms),
        ("model, own machines", "machines_ms", _ms),
    ],
    "predictions": [
        ("documents", "documents", _whole),
        ("machines", "machines", _whole),
        ("cores each", "cores_per_machine", _whole),
        ("shards", "shards", _whole),
        ("ms", "ms", _ms),
        ("GB each", "bytes_per_machine", lambda value: f"{value / 1e9:,.1f}"),
    ],
}


def report(kind: str, *, engine: str, command: str, rows: Sequence[Mapping[str, Any]], **said: Any) -> dict[str, Any]:
    """The whole of a run, as plain JSON.

    Args:
        kind: ``table1`` or ``table2``.
        engine: as `describe_engine` says.
        command: that gives it again.
        rows: of the table.
        said: what else belongs to it: the number of documents, the seed and so on.
    """
    return {
        "kind": kind,
        "deepterms": version("deepterms"),
        "engine": engine,
        "machine": machine(),
        "command": command,
        **said,
        "rows": list(rows),
    }


def headers(kind: str) -> list[str]:
    """What stands above the columns of a table."""
    return [header for header, _, _ in COLUMNS[kind]]


def cells(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as text; a dash for what is not known."""
    return [["–" if row.get(key) is None else written(row[key]) for _, key, written in COLUMNS[kind]] for row in rows]


def markdown(made: Mapping[str, Any]) -> str:
    """A report as a page."""
    kind = made["kind"]
    lines = [f"# Table {kind[-1]} of the paper, measured", "", *(f"{sentence}\n" for sentence in made["notes"])]
    lines += _table(headers(kind), cells(kind, made["rows"]))
    if made.get("predictions"):
        lines += ["", "## Predicted", "", *_table(headers("predictions"), cells("predictions", made["predictions"]))]
    lines += ["", f"{made['engine']}; {measured_on(made)}.", "", f"    {made['command']}", ""]
    return "\n".join(lines)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (names, ["--:"] * len(names), *rows)]


def write_report(made: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON or as Markdown, as the name of the file says; missing folders are made.

    Raises:
        InvalidInput: the name ends in neither.
    """
    if path.suffix not in {".json", ".md"}:
        raise InvalidInput(f"{path} is neither a .json nor a .md file")
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n" if path.suffix == ".json" else markdown(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
