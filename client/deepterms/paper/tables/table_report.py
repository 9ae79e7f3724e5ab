"""Turn the rows of a measured table and its metadata into JSON, Markdown and formatted cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.paper.tables.machine import describe_machine, format_environment

__all__ = ["build_table", "format_cells", "format_markdown", "list_headers", "write_table"]

Column = tuple[str, str, Callable[[Any], str]]  # heading, key in the row, formatter


def _format_ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _format_integer(value: float) -> str:
    return f"{value:,.0f}"


_TIMES: list[Column] = [(f"{name} ms", f"{name}_ms", _format_ms) for name in ("mean", "p50", "p95", "p99")]
COLUMNS: Mapping[str, list[Column]] = {
    "table1": [
        ("K", "top_k", _format_integer),
        *_TIMES,
        ("paper ms (1M)", "paper_ms", _format_ms),
        ("postings", "postings", _format_integer),
        ("ns per posting", "ns_per_posting", _format_ms),
        ("limit ms", "limit_ms", _format_ms),
        ("limit ns per posting", "limit_ns_per_posting", _format_ms),
        ("times the limit", "ratio_to_limit", lambda value: f"{value:.1f}"),
        ("MB", "bytes", lambda value: f"{value / 1e6:,.0f}"),
    ],
    "table2": [
        ("nodes", "nodes", _format_integer),
        ("shares", "shares", _format_integer),
        ("documents", "documents", _format_integer),
        ("nodes per core", "nodes_per_core", _format_integer),
        *_TIMES,
        ("paper ms (1M per share)", "paper_ms", _format_ms),
        ("model ms, this machine", "model_ms", _format_ms),
        ("model ms, one machine per node", "machines_ms", _format_ms),
    ],
    "predictions": [
        ("documents", "documents", _format_integer),
        ("machines", "machines", _format_integer),
        ("cores per machine", "cores_per_machine", _format_integer),
        ("shards", "shards", _format_integer),
        ("ms", "ms", _format_ms),
        ("GB per machine", "bytes_per_machine", lambda value: f"{value / 1e9:,.1f}"),
    ],
}


def build_table(
    kind: str, *, engine: str, command: str, rows: Sequence[Mapping[str, Any]], **details: Any
) -> dict[str, Any]:
    """Combine the rows of a table with the metadata of its run as plain JSON values.

    Args:
        kind: ``table1`` or ``table2``.
        engine: as returned by `describe_engine`.
        command: that reproduces the table.
        rows: of the table.
        details: further metadata, such as the number of documents and the seed.
    """
    return {
        "kind": kind,
        "deepterms": version("deepterms"),
        "engine": engine,
        "machine": describe_machine(),
        "command": command,
        **details,
        "rows": list(rows),
    }


def list_headers(kind: str) -> list[str]:
    """List the column headings of a table."""
    return [header for header, _, _ in COLUMNS[kind]]


def format_cells(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format rows as text, with a dash for unknown values."""
    return [["–" if row.get(key) is None else write(row[key]) for _, key, write in COLUMNS[kind]] for row in rows]


def format_markdown(table: Mapping[str, Any]) -> str:
    """Format a table with its metadata as a Markdown page."""
    kind = table["kind"]
    lines = [f"# Table {kind[-1]} of the paper, measured", "", *(f"{sentence}\n" for sentence in table["notes"])]
    lines += _format_rows(kind, table["rows"])
    if table.get("predictions"):
        lines += ["", "## Predictions", "", *_format_rows("predictions", table["predictions"])]
    lines += ["", f"{table['engine']}; {format_environment(table)}.", "", f"    {table['command']}", ""]
    return "\n".join(lines)


def _format_rows(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list_headers(kind)
    return [f"| {' | '.join(line)} |" for line in (names, ["--:"] * len(names), *format_cells(kind, rows))]


def write_table(table: Mapping[str, Any], path: Path) -> None:
    """Write a table as JSON or Markdown, depending on the file suffix; missing folders are created.

    Raises:
        InvalidInput: the suffix is neither .json nor .md.
    """
    if path.suffix not in {".json", ".md"}:
        raise InvalidInput(f"got {path}; expected a file name ending in .json or .md")
    text = json.dumps(table, indent=1, ensure_ascii=False) + "\n" if path.suffix == ".json" else format_markdown(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
