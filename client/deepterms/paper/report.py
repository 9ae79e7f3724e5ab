"""Results of the figure and the tables to one report: a page that needs no other file, and the same as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepterms.errors import MissingExtra
from deepterms.paper.drawing import figure1_svg
from deepterms.paper.figure1 import EXACT
from deepterms.paper.results import read_results
from deepterms.paper.tables.machine import measured_on
from deepterms.paper.tables.table_report import cells, headers

__all__ = ["Section", "TextTable", "sections", "write_report"]

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
        names: above the columns.
        rows: cells, as many as names in each.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        paragraphs: of text.
        tables: after the text.
        svg: a picture as an SVG element, empty without one.
        picture: the file of the same picture, for Markdown.
        command: that measures it again.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[TextTable, ...] = field(default_factory=tuple)
    svg: str = ""
    picture: str = ""
    command: str = ""


def write_report(folder: Path) -> list[Path]:
    """Write report.html and report.md beside the results, with whatever of them there is; what is missing is named.

    Args:
        folder: of results: JSON of `deepterms paper figure1` and `deepterms paper table1` and `table2`, of any name.

    Returns:
        The two files, the page first.

    Raises:
        InvalidInput: no results, or damaged ones.
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "evaluate") from error
    parts = list(sections(read_results(folder)))
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
    text.write_text(_markdown(parts), encoding="utf-8")
    return [page, text]


def sections(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[Section]:
    """The parts of the report, in the order of the paper.

    Args:
        results: of `read_results`.

    Raises:
        MissingExtra: matplotlib is not installed, and there is a figure.
    """
    for kind, (title, command) in COMMANDS.items():
        found = results.get(kind, {})
        if not found:
            yield Section(
                f"{title} is missing",
                ("It has not been measured into this folder. This command does it:",),
                command=command.format(folder="FOLDER"),
            )
        for name, result in found.items():
            yield _figure(name, result) if kind == "figure1" else _table(title, kind, result)


def _figure(name: str, result: Mapping[str, Any]) -> Section:
    collection, points = result["collection"], result["points"]
    average = (
        "trapezoids, as of INRIA Holidays" if collection["averaging"] == "trapezoids" else "precisions (trec_eval)"
    )
    books = result["codebooks"]
    said = [
        f"{collection['documents']:,} documents ({collection['distractors']:,} of them distractors), "
        f"{collection['queries']:,} queries, descriptors of {collection['dimensions']:,} dimensions. AP by {average}; "
        f"in brackets 95 % bootstrap intervals over the queries, seed {result['seed']}. R@10 is against exact cosine.",
    ]
    if books:
        said.append(
            f"IVFPQ: {books['cells']:,} cells, codes of {books['code_bytes']} bytes, every codebook trained on "
            f"{books['training_rows']:,} descriptors. Cells are the power of two nearest to the root of the number of "
            "documents, as far as there are 39 descriptors to train each; a byte of a code stands for ten dimensions."
        )
    said.append(f"{measured_on(result)}.")
    return Section(
        f"Figure 1: {collection['name']}",
        tuple(said),
        (_claims(result["claims"]), _beside_the_paper(result), _points(points)),
        svg=figure1_svg(result),
        picture=f"{name}.svg",
        command=result["command"],
    )


def _claims(claims: Sequence[Mapping[str, Any]]) -> TextTable:
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
        ("what the paper's figure shows", "holds here", "differences beyond chance", "against it"), tuple(rows)
    )


def _beside_the_paper(result: Mapping[str, Any]) -> TextTable:
    """The paper's points, each beside ours of the same curve: at the same K, or where about as much is read."""
    rows = []
    for point in result["paper"]:
        curve = EXACT if point["curve"] == "exact" else point["curve"]
        ours = [one for one in result["points"] if one["curve"] == curve]
        if point["setting"]:
            ours = [one for one in ours if one["setting"] == point["setting"]]
        published = point["accessed_fraction"]
        nearest = min(ours, key=lambda one: abs(math.log(_reads(one) / (published or 1.0))), default=None)
        rows.append(
            (
                f"{curve} {point['setting']}".strip(),
                f"{point['mean_average_precision']:.3f}",
                "–" if published is None else f"{published:.1e} ({point['accessed_from']})",
                *(
                    ("–", "–", "–")
                    if nearest is None
                    else (_with_interval(nearest, "map"), f"{_reads(nearest):.1e}", nearest["setting"] or "–")
                ),
            )
        )
    names = ("curve", "paper: mAP, read off", "paper: accessed fraction", "here: mAP", "here: accessed", "here: at")
    return TextTable(names, tuple(rows))


def _reads(point: Mapping[str, Any]) -> float:
    """The accessed fraction as the figure's axis has it: afda_mean, or the share of documents read."""
    return float(point["touched_fraction"] if point["afda_mean"] is None else point["afda_mean"])


def _points(points: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = (
        (
            point["curve"],
            point["setting"],
            _with_interval(point, "map"),
            f"{point['recall_at_10']:.3f}",
            _number(point["afda_sum"]),
            _number(point["afda_mean"]),
            f"{point['postings_per_query']:,.0f}",
            f"{point['touched_fraction']:.4f}",
            f"{point['bytes'] / 1e6:,.1f}",
        )
        for point in points
    )
    names = ("curve", "setting", "mAP", "R@10", "afda_sum", "afda_mean", "entries read", "documents read / N", "MB")
    return TextTable(names, tuple(rows))


def _table(title: str, kind: str, result: Mapping[str, Any]) -> Section:
    said = [str(note) for note in result.get("notes", ())]
    where = [result.get("engine", ""), f"{result['documents']:,} documents" if "documents" in result else ""]
    said.append("; ".join([*filter(None, where), measured_on(result)]) + ".")
    tables = [TextTable(tuple(headers(kind)), tuple(map(tuple, cells(kind, result["rows"]))))]
    if predicted := result.get("predictions"):
        tables.append(TextTable(tuple(headers("predictions")), tuple(map(tuple, cells("predictions", predicted)))))
    return Section(title, tuple(said), tuple(tables), command=result.get("command", ""))


def _with_interval(point: Mapping[str, Any], name: str) -> str:
    return f"{point[name]:.3f} [{point[f'{name}_low']:.3f}, {point[f'{name}_high']:.3f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _markdown(parts: Sequence[Section]) -> str:
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
