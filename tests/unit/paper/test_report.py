from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from deepterms.errors import InvalidInput, MissingExtra
from deepterms.paper import Settings, draw_figure1, figure1, figure1_result, read_results, write_figure1, write_report
from tests.unit.evaluation.judged import clusters

MACHINE = {"processor": "Abacus <9000>", "cores": 2, "memory_bytes": 2**34, "system": "Linux", "python": "3.12"}
TABLE1 = {
    "kind": "table1",
    "deepterms": "0.1.0",
    "engine": "OpenSearch 3.8.0",
    "machine": MACHINE,
    "documents": 1_000_000,
    "seed": 0,
    "command": "deepterms paper table1 --documents 1000000",
    "rows": [
        {
            "top_k": 42, "mean_ms": 12.5, "p50_ms": 12.0, "p95_ms": 15.0, "p99_ms": 20.0, "postings": 430_000,
            "ns_per_posting": 27.9, "limit_ms": 1.1, "limit_ns_per_posting": 2.5, "paper_ms": 51,
        }
    ],
}  # fmt: skip
TABLE2 = {
    "kind": "table2",
    "deepterms": "0.1.0",
    "engine": "OpenSearch 3.8.0",
    "machine": MACHINE,
    "command": "deepterms paper table2",
    "rows": [{"nodes": 1, "shares": 1, "documents": 250_000, "mean_ms": 31.25, "paper_ms": None}],
    "predictions": [{"documents": 10**9, "machines": 128, "cores_per_machine": 8, "shards": 128, "ms": 1234.5}],
}


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    found = figure1(clusters(), settings=Settings((4, 8), (2, 4), (), ()))
    return figure1_result(found, command="deepterms paper figure1 --seed 0")


class _Page(HTMLParser):
    """What a browser would fetch, and the headings."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        if tag in {"script", "link", "img", "iframe", "image"}:
            self.fetched += [value for name in ("src", "href", "xlink:href") if (value := named.get(name))]


def test_files_of_a_figure(result: dict[str, Any], tmp_path: Path) -> None:
    written = write_figure1(result, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["figure1.json", "figure1.csv", "figure1.svg", "figure1.png"]
    assert json.loads(written[0].read_text()) == result
    with written[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["curve"] for row in rows] == [point["curve"] for point in result["points"]]
    assert float(rows[1]["map"]) == result["points"][1]["map"]
    assert rows[0]["afda_sum"] == ""  # exact cosine has no lists
    svg = written[2].read_text()
    for text in (
        "deep permutations, CReLU",
        "AFDA, sum",
        "AFDA, mean",
        "entries read by a query",
        "read off the paper",
    ):
        assert text in svg
    assert written[3].read_bytes().startswith(b"\x89PNG")


def test_the_same_result_draws_the_same_picture(result: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw_figure1(result, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(InvalidInput, match="neither an"):
        draw_figure1(result, tmp_path / "figure.pdf")


def test_a_report_of_everything(result: dict[str, Any], tmp_path: Path) -> None:
    write_figure1(result, tmp_path, name="crops")
    (tmp_path / "table1.json").write_text(json.dumps(TABLE1))
    (tmp_path / "t2.json").write_text(json.dumps(TABLE2))
    (tmp_path / "other.json").write_text('{"kind": "something else"}')
    page, text = write_report(tmp_path)
    html, markdown = page.read_text(), text.read_text()
    parsed = _Page()
    parsed.feed(html)
    assert parsed.fetched == []
    assert parsed.tags.count("svg") == 1
    assert "Abacus &lt;9000&gt;" in html
    assert "missing" not in html + markdown
    for shown in (html, markdown):
        assert "deepterms paper figure1 --seed 0" in shown
        assert "deepterms paper table1 --documents 1000000" in shown
        assert "exact cosine is on top" in shown
        assert "1,000,000,000" in shown
        assert "0.417" in shown  # the paper's point at K = 42
    assert "\n| 42 | 12.5 | 12 | 15 | 20 | 51 | 430,000 | 27.9 | 1.1 | 2.5 | – | – |\n" in markdown
    assert "\n| 1 | 1 | 250,000 | – | 31.2 | – | – | – | – | – | – |\n" in markdown
    assert "<td>51</td>" in html
    assert "![Figure 1: clusters](crops.svg)" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "table1.json").write_text(json.dumps(TABLE1))
    _, text = write_report(tmp_path)
    markdown = text.read_text()
    assert "## Figure 1 is missing" in markdown
    assert "deepterms paper figure1 --output FOLDER" in markdown
    assert "## Table 2 is missing" in markdown
    assert "## Table 1\n" in markdown


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no result"):
        write_report(tmp_path)
    with pytest.raises(InvalidInput, match="is not a folder"):
        read_results(tmp_path / "missing")
    (tmp_path / "table1.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"table1\.json is damaged"):
        read_results(tmp_path)


@pytest.mark.parametrize(("module", "package"), [("matplotlib", "matplotlib"), ("jinja2", "jinja2")])
def test_missing_extras_have_their_pip_line(
    module: str, package: str, result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figure1.json").write_text(json.dumps(result))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'{package} is not installed.*pip install "deepterms\[evaluate\]"'):
        write_report(tmp_path)
