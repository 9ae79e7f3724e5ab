"""Turn the JSON of Figure 1 into a plot: mAP against what a query reads, on three axes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.optional import require
from deepterms.paper.figure1 import CRELU, EXACT, FOREIGN, GRAPH, OWN, PLAIN, SCAN

__all__ = ["draw_figure1", "render_svg"]

AXES = {
    "afda_mean": "AFDA, mean: Σ d² / V\n(others: documents read / N)",
    "afda_sum": "AFDA, sum: Σ d², as printed\n(others: documents read / N)",
    "postings_per_query": "entries read per query, measured\n(postings, codes, vectors)",
}
# Okabe and Ito's colours, which people with most kinds of colour blindness can tell apart; markers differ as well.
STYLES: Mapping[str, tuple[str, str]] = {
    CRELU: ("#0072B2", "o"),
    PLAIN: ("#56B4E9", "s"),
    OWN: ("#D55E00", "^"),
    FOREIGN: ("#E69F00", "v"),
    GRAPH: ("#009E73", "D"),
    SCAN: ("#CC79A7", "x"),
}
PAPER_CURVES = {"deep permutations, CReLU": CRELU, "IVFPQ, own codebooks": OWN, "IVFPQ, foreign codebooks": FOREIGN}


def draw_figure1(result: Mapping[str, Any], file: Path) -> None:
    """Plot Figure 1 and write it to a file.

    Args:
        result: JSON of Figure 1.
        file: ends in .svg or .png; overwritten if it exists.

    Raises:
        InvalidInput: the file has any other suffix.
        MissingExtra: matplotlib is not installed.
    """
    if file.suffix not in {".svg", ".png"}:
        raise InvalidInput(f"got {file}; expected a file name ending in .svg or .png")
    file.write_bytes(_render(result, file.suffix[1:]))


def render_svg(result: Mapping[str, Any]) -> str:
    """Plot Figure 1 as an SVG element to embed in a page.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    text = _render(result, "svg").decode("utf-8")
    return text[text.index("<svg") :]


def _render(result: Mapping[str, Any], kind: str) -> bytes:
    with require("matplotlib", "evaluate"):
        import matplotlib
        from matplotlib.figure import Figure
    # Keep text as text, and make the same numbers give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure1", "font.size": 9}):
        figure = Figure(figsize=(13, 5), layout="constrained")
        panels = figure.subplots(1, len(AXES), sharey=True)
        for place, (axis, label) in enumerate(AXES.items()):
            _draw_panel(panels[place], result, axis)
            panels[place].set(xscale="log", xlabel=label)
            panels[place].grid(alpha=0.3, which="major")
        panels[0].set_ylabel("mAP")
        collection = result["collection"]
        figure.suptitle(
            f"{collection['name']}: {collection['documents']:,} documents, {collection['queries']:,} queries, "
            f"{collection['dimensions']:,} dimensions; error bars: 95 % over queries"
        )
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        written = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(written, format=kind, dpi=110, metadata=metadata)
    return written.getvalue()


def _draw_panel(panel: Any, result: Mapping[str, Any], axis: str) -> None:
    points: Sequence[Mapping[str, Any]] = result["points"]
    for curve, (colour, marker) in STYLES.items():
        theirs = [point for point in points if point["curve"] == curve]
        if theirs:
            panel.errorbar(
                [_read_axis(point, axis) for point in theirs],
                [point["map"] for point in theirs],
                yerr=[
                    [point["map"] - point["map_low"] for point in theirs],
                    [point["map_high"] - point["map"] for point in theirs],
                ],
                color=colour,
                marker=marker,
                markersize=5,
                linewidth=1.4,
                elinewidth=0.6,
                label=curve,
            )
    for point in points:
        if point["curve"] == EXACT:
            panel.axhline(point["map"], color="black", linestyle="--", linewidth=1, label=EXACT)
    if axis == "afda_mean":
        _draw_published(panel, result["paper"])


def _draw_published(panel: Any, published: Sequence[Mapping[str, Any]]) -> None:
    """Draw the paper's points with hollow markers; its collection and network differ, so only the shape compares."""
    for point in published:
        if point["accessed_fraction"] is None:
            panel.axhline(point["mean_average_precision"], color="grey", linestyle=":", linewidth=1)
    labelled = False
    for name, curve in PAPER_CURVES.items():
        theirs = [point for point in published if point["curve"] == name]
        colour, marker = STYLES[curve]
        panel.plot(
            [point["accessed_fraction"] for point in theirs],
            [point["mean_average_precision"] for point in theirs],
            linestyle=":",
            color=colour,
            marker=marker,
            markersize=9,
            markerfacecolor="none",
            alpha=0.7,
            label=None if labelled else "dotted, hollow: read off the paper (Holidays + 1M)",
        )
        labelled = True


def _read_axis(point: Mapping[str, Any], axis: str) -> float:
    """Return a point's position on the axis: AFDA for an inverted index, otherwise the share of documents read."""
    value = point[axis]
    return float(point["touched_fraction"] if value is None else value)
