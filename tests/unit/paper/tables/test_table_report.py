from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepterms.cli.app import app
from deepterms.cli.terminal import format_command
from deepterms.errors import InvalidInput
from deepterms.paper.tables.table_report import build_table, format_cells, list_headers, write_table

ROW = {
    "top_k": 400, "mean_ms": 512.3, "p50_ms": 500.0, "p95_ms": 99.96, "p99_ms": 1234.5, "postings": 39_062_500.4,
    "ns_per_posting": 13.1, "limit_ms": 33.0, "limit_ns_per_posting": 0.85, "ratio_to_limit": 15.52, "paper_ms": None,
    "bytes": 826_000_000,
}  # fmt: skip


def test_a_table_is_written_as_json_and_markdown(tmp_path: Path) -> None:
    made = build_table(
        "table1", engine="OpenSearch 3.8.0", command="deepterms paper table1", rows=[ROW], seed=3, notes=["So."]
    )
    assert made["machine"]["cores"] >= 1
    write_table(made, tmp_path / "new" / "table1.json")
    assert json.loads((tmp_path / "new" / "table1.json").read_text(encoding="utf-8")) == made
    write_table(made, tmp_path / "table1.md")
    text = (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert text.startswith("# Table 1 of the paper, measured\n\nSo.\n")
    assert "| 400 | 512 | 500 | 100 | 1,234 | – | 39,062,500 | 13.1 | 33 | 0.85 | 15.5 | 826 |" in text
    assert "    deepterms paper table1\n" in text
    assert made["machine"]["processor"] in text
    with pytest.raises(InvalidInput, match=r"ending in \.json or \.md"):
        write_table(made, tmp_path / "table1.txt")


def test_every_row_has_a_cell_for_every_header() -> None:
    (row,) = format_cells("table1", [ROW])
    assert len(row) == len(list_headers("table1"))


def test_the_command_lists_every_given_option() -> None:
    options = {"documents": 20, "top-k": (1, 2), "layout": None}
    assert format_command("paper", "table1", options=options) == (
        "deepterms paper table1 --documents 20 --top-k 1 --top-k 2"
    )


def test_a_wrong_output_is_rejected_before_measuring() -> None:
    done = CliRunner().invoke(app, ["paper", "table1", "--output", "table.txt", "--url", "http://localhost:1"])
    assert isinstance(done.exception, InvalidInput)
    assert "expected a .json or a .md file" in str(done.exception)
