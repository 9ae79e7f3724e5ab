"""Turn the results of the figure and the tables into one report, as a self-contained HTML page and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepterms.optional import require
from deepterms.paper.drawing import render_svg
from deepterms.paper.figure1 import EXACT
from deepterms.paper.results import read_results
from deepterms.paper.tables.machine import format_environment
from deepterms.paper.tables.table_report import format_cells, list_headers

__all__ = ["Section", "TextTable", "build_sections", "write_report"]

TITLE = "Large-Scale Image Retrieval with Elasticsearch, reproduced"
COMMANDS = {
    "figure1": ("Figure 1", "deepterms paper figure1 --output {folder}"),
    "table1": ("Table 1", "deepterms paper table1 --output {folder}/table1.json"),
    "table2": ("Table 2", "deepterms paper table2 --output {folder}/table2.json"),
}


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        names: column headings.
        rows: of cells, one per column.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: heading.
        paragraphs: of text.
        tables: after the text.
        svg: the plot as an SVG element; empty if there is none.
        picture: file name of the same plot, for Markdown.
        command: that reproduces the results.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[TextTable, ...] = field(default_factory=tuple)
    svg: str = ""
    picture: str = ""
    command: str = ""


def write_report(folder: Path) -> list[Path]:
    """Write report.html and report.md into the folder of results; missing results are listed with their commands.

    Args:
        folder: contains JSON files of `deepterms paper figure1`, `table1` and `table2`, under any name.

    Returns:
        The two files, HTML first.

    Raises:
        InvalidInput: there are no results, or a file is damaged.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    with require("jinja2", "evaluate"):
        import jinja2
    parts = list(build_sections(read_results(folder)))
    source = (resources.files("deepterms.paper") / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page, text = folder / "report.html", folder / "report.md"
    shown = environment.from_string(source).render(title=TITLE, sections=parts, version=version("deepterms"))
    page.write_text(shown, encoding="utf-8")
    for part in parts:
        if part.svg and not (folder / part.picture).exists():
            (folder / part.picture).write_text(part.svg, encoding="utf-8")
    text.write_text(_format_markdown(parts), encoding="utf-8")
    return [page, text]


def build_sections(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Section]:
    """Build the sections of the report, in the order of the paper.

    Args:
        results: as returned by `read_results`.

    Raises:
        MissingExtra: there is a figure, and matplotlib is not installed.
    """
    for kind, (title, command) in COMMANDS.items():
        found = results.get(kind, {})
        if not found:
            yield Section(
                f"{title} is missing",
                ("This folder contains no result for it. To measure it, run:",),
                command=command.format(folder="FOLDER"),
            )
        for name, result in found.items():
            yield _build_figure(name, result) if kind == "figure1" else _build_table(title, kind, result)


def _build_figure(name: str, result: Mapping[str, Any]) -> Section:
    collection, points = result["collection"], result["points"]
    average = (
        "the trapezoidal rule, as in INRIA Holidays"
        if collection["averaging"] == "trapezoids"
        else "the mean of precisions (trec_eval)"
    )
    books = result["codebooks"]
    paragraphs = [
        f"{collection['documents']:,} documents (including {collection['distractors']:,} distractors), "
        f"{collection['queries']:,} queries, {collection['dimensions']:,}-dimensional descriptors. AP uses {average}; "
        f"brackets show 95 % bootstrap intervals over the queries, seed {result['seed']}. R@10 is measured against "
        "exact cosine.",
    ]
    if books:
        paragraphs.append(
            f"IVFPQ: {books['cells']:,} cells, {books['code_bytes']}-byte codes, each codebook trained on "
            f"{books['training_rows']:,} descriptors. The number of cells is the power of two nearest to the square "
            "root of the number of documents, limited to one cell per 39 training descriptors; each byte of a code "
            "covers ten dimensions."
        )
    paragraphs.append(f"{format_environment(result)}.")
    return Section(
        f"Figure 1: {collection['name']}",
        tuple(paragraphs),
        (_tabulate_claims(result["claims"]), _compare_with_paper(result), _tabulate_points(points)),
        svg=render_svg(result),
        picture=f"{name}.svg",
        command=result["command"],
    )


def _tabulate_claims(claims: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = (
        (
            claim["says"],
            "yes" if claim["holds"] else "no",
            f"{claim['in_favour']} of {len(claim['differences'])}",
            str(claim["against"]),
        )
        for claim in claims
    )
    return TextTable(
        ("claim of the paper's figure", "holds here", "significant differences in favour", "against"), tuple(rows)
    )


def _compare_with_paper(result: Mapping[str, Any]) -> TextTable:
    """Pair each of the paper's points with ours on the same curve: at the same K, or where a similar share is read."""
    rows = []
    for point in result["paper"]:
        curve = EXACT if point["curve"] == "exact" else point["curve"]
        ours = [one for one in result["points"] if one["curve"] == curve]
        if point["setting"]:
            ours = [one for one in ours if one["setting"] == point["setting"]]
        published = point["accessed_fraction"]
        nearest = min(ours, key=lambda one: abs(math.log(_accessed_fraction(one) / (published or 1.0))), default=None)
        rows.append(
            (
                f"{curve} {point['setting']}".strip(),
                f"{point['mean_average_precision']:.3f}",
                "–" if published is None else f"{published:.1e} ({point['accessed_from']})",
                *(
                    ("–", "–", "–")
                    if nearest is None
                    else (
                        _format_interval(nearest, "map"),
                        f"{_accessed_fraction(nearest):.1e}",
                        nearest["setting"] or "–",
                    )
                ),
            )
        )
    names = (
        "curve",
        "paper: mAP, read off",
        "paper: accessed fraction",
        "here: mAP",
        "here: accessed fraction",
        "here: setting",
    )
    return TextTable(names, tuple(rows))


def _accessed_fraction(point: Mapping[str, Any]) -> float:
    """Return the accessed fraction on the figure's axis: afda_mean, or the share of documents read."""
    return float(point["touched_fraction"] if point["afda_mean"] is None else point["afda_mean"])


def _tabulate_points(points: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = (
        (
            point["curve"],
            point["setting"],
            _format_interval(point, "map"),
            f"{point['recall_at_10']:.3f}",
            _format_number(point["afda_sum"]),
            _format_number(point["afda_mean"]),
            f"{point['postings_per_query']:,.0f}",
            f"{point['touched_fraction']:.4f}",
            f"{point['bytes'] / 1e6:,.1f}",
        )
        for point in points
    )
    names = ("curve", "setting", "mAP", "R@10", "afda_sum", "afda_mean", "entries read", "documents read / N", "MB")
    return TextTable(names, tuple(rows))


def _build_table(title: str, kind: str, result: Mapping[str, Any]) -> Section:
    paragraphs = [str(note) for note in result.get("notes", ())]
    where = [result.get("engine", ""), f"{result['documents']:,} documents" if "documents" in result else ""]
    paragraphs.append("; ".join([*filter(None, where), format_environment(result)]) + ".")
    tables = [_tabulate(kind, result["rows"])]
    if predicted := result.get("predictions"):
        tables.append(_tabulate("predictions", predicted))
    return Section(title, tuple(paragraphs), tuple(tables), command=result.get("command", ""))


def _tabulate(kind: str, rows: Sequence[Mapping[str, Any]]) -> TextTable:
    return TextTable(tuple(list_headers(kind)), tuple(map(tuple, format_cells(kind, rows))))


def _format_interval(point: Mapping[str, Any], name: str) -> str:
    return f"{point[name]:.3f} [{point[f'{name}_low']:.3f}, {point[f'{name}_high']:.3f}]"


def _format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _format_markdown(parts: Sequence[Section]) -> str:
    lines = [f"# {TITLE}", ""]
    for part in parts:
        lines += [f"## {part.title}", ""]
        if part.picture:
            lines += [f"![{part.title}]({part.picture})", ""]
        for paragraph in part.paragraphs:
            lines += [paragraph, ""]
        for table in part.tables:
            written = [table.names, ["---"] * len(table.names), *table.rows]
            lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in written]
            lines.append("")
        if part.command:
            lines += [f"    {part.command}", ""]
    return "\n".join(lines)
