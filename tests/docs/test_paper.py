"""docs/paper.md and docs/benchmarks.md: their numbers are those of the results, their commands have the options."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepterms.cli.app import app
from deepterms.paper import read_results, write_report
from deepterms.paper.report import Section, build_sections
from deepterms.paper.tables.table_report import format_cells, list_headers

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "paper.md").read_text(encoding="utf-8")
SENTENCES = " ".join(PAGE.split())  # wherever the lines break
BENCHMARKS = (TOP / "docs" / "benchmarks.md").read_text(encoding="utf-8")
RESULTS = TOP / "benchmarks" / "results" / "paper"


def _figure() -> Section:
    (figure,) = [part for part in build_sections(read_results(RESULTS)) if part.picture == "figure1.svg"]
    return figure


def test_every_row_with_the_paper_is_on_the_page() -> None:
    pytest.importorskip("matplotlib")
    claims, compared, _ = _figure().tables
    for table in (claims, compared):
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in PAGE


def test_the_benchmarks_have_the_same_figure_1() -> None:
    result = read_results(RESULTS)["figure1"]["figure1"]
    found = {f"{point['curve']} {point['setting']}".strip(): point["map"] for point in result["points"]}
    crelu = [found[f"deep permutations, CReLU K={top_k}"] for top_k in (42, 100, 200, 400)]
    leads = [difference["mean"] for difference in result["claims"][0]["differences"]]
    plain = [of_crelu - leads[place] for of_crelu, place in zip(crelu, (0, 3, 4, 5), strict=True)]
    for label, numbers in (
        ("exact cosine", [found["exact cosine"]]),
        ("deep permutations with CReLU, K = 42 / 100 / 200 / 400", crelu),
        ("the same without CReLU, at equal `afda_mean`", plain),
        (
            "IVFPQ, own / foreign codebooks, 1 of 128 cells",
            [found[f"IVFPQ, {kind} codebooks 1 of 128 cells"] for kind in ("own", "foreign")],
        ),
    ):
        (row,) = (line for line in BENCHMARKS.splitlines() if line.startswith(f"| {label} |"))
        shown = row.split("|")[-2].split()
        assert [f"{number:.3f}"[1:] for number in numbers] == [one for one in shown if one != "/"]


def test_table_1_is_that_of_the_results() -> None:
    rows = read_results(RESULTS)["table1"]["table1"]["rows"]
    table = [dict(zip(list_headers("table1"), row, strict=True)) for row in format_cells("table1", rows)]
    for row in table:
        assert f"| {' | '.join(row.values())} |" in PAGE
    for label, name in (("K", "K"), ("the paper", "paper ms (1M)"), ("here", "mean ms"), ("times the limit",) * 2):
        assert f"\n| {label} | {' | '.join(row[name] for row in table)} |\n" in BENCHMARKS


def test_table_2_is_that_of_the_results() -> None:
    result = read_results(RESULTS)["table2"]["table2"]
    table = [dict(zip(list_headers("table2"), row, strict=True)) for row in format_cells("table2", result["rows"])]
    for nodes in ("1", "2", "3", "4"):
        found = [row["p50 ms"] for row in table if row["nodes"] == nodes]
        assert f"\n| {nodes} | {' | '.join(found)} |\n" in PAGE
    assert f"off by {100 * result['model']['error']:.0f} % at most" in SENTENCES
    (two,) = (row for row in table if (row["nodes"], row["shares"]) == ("2", "2"))
    assert f"({two['model ms, this machine']} ms for a share each, where {two['p50 ms']} were measured)" in SENTENCES
    predicted = dict(
        zip(list_headers("predictions"), format_cells("predictions", result["predictions"])[-1], strict=True)
    )
    assert (predicted["documents"], predicted["machines"]) == ("1,000,000,000", "64")
    assert f"{predicted['ms']} ms for a billion images on 64 machines" in SENTENCES


def test_the_report_is_that_of_the_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    _, written = write_report(tmp_path)
    assert written.read_text(encoding="utf-8") == (RESULTS / "report.md").read_text(encoding="utf-8")


def test_the_papers_ordering_holds_in_the_results() -> None:
    figure = read_results(RESULTS)["figure1"]["figure1"]
    assert all(claim["holds"] for claim in figure["claims"])
    assert figure["collection"]["documents"] == 16_992
    assert "16,992 crops of 354 photographs" in SENTENCES


def test_the_numbers_of_holidays_are_those_of_the_results() -> None:
    result = read_results(RESULTS)["figure1"]["holidays"]
    found = {f"{point['curve']} {point['setting']}".strip(): f"{point['map']:.3f}"[1:] for point in result["points"]}
    crelu = " / ".join(found[f"deep permutations, CReLU K={top_k}"] for top_k in (42, 100, 400))
    assert f"exact cosine {found['exact cosine']}, CReLU {crelu} at K = 42 / 100 / 400" in SENTENCES
    at_equal_mean, at_equal_postings, _ = result["claims"]
    assert (at_equal_mean["holds"], at_equal_mean["in_favour"]) == (True, 2)
    assert not at_equal_postings["holds"]


def test_commands_have_the_options_that_the_page_names() -> None:
    commands = re.findall(r"^deepterms (paper \w+|extract) (.*(?:\\\n.*)*)", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command, rest in commands:
        usage = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert usage.exit_code == 0
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in usage.output, (command, option)
