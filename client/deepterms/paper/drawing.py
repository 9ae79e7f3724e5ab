"""The JSON of Figure 1 to a picture: mAP against what a query reads, on three axes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput, MissingExtra
from deepterms.paper.figure1 import CRELU, EXACT, FOREIGN, GRAPH, OWN, PLAIN, SCAN

__all__ = ["draw_figure1", "figure1_svg"]

AXES = {
    "afda_mean": "AFDA, mean: Σ d² / V\n(others: documents read / N)",
    "afda_sum": "AFDA, sum: Σ d², as printed\n(others: documents read / N)",
    "postings_per_query": "entries read by a query, measured\n(postings, codes, vectors)",
}
# Colours that stay apart for most kinds of colour blindness (Okabe and Ito), and markers besides.
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
    """Write the picture.

    Args:
        result: the JSON of a Figure 1.
        file: .svg or .png; replaced.

    Raises:
        InvalidInput: another suffix.
        MissingExtra: matplotlib is not installed.
    """
    if file.suffix not in {".svg", ".png"}:
        raise InvalidInput(f"{file} is neither an .svg nor a .png file")
    file.write_bytes(_drawn(result, file.suffix[1:]))


def figure1_svg(result: Mapping[str, Any]) -> str:
    """The picture as an SVG element, to stand inside a page.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    text = _drawn(result, "svg").decode("utf-8")
    return text[text.index("<svg") :]


def _drawn(result: Mapping[str, Any], kind: str) -> bytes:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "evaluate") from error
    # Text stays text, and the same numbers give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "figure1", "font.size": 9}):
        figure = Figure(figsize=(13, 5), layout="constrained")
        panels = figure.subplots(1, len(AXES), sharey=True)
        for place, (axis, label) in enumerate(AXES.items()):
            _panel(panels[place], result, axis)
            panels[place].set(xscale="log", xlabel=label)
            panels[place].grid(alpha=0.3, which="major")
        panels[0].set_ylabel("mAP")
        collection = result["collection"]
        figure.suptitle(
            f"{collection['name']}: {collection['documents']:,} documents, {collection['queries']:,} queries, "
            f"{collection['dimensions']:,} dimensions; bars: 95 % over queries"
        )
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        written = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(written, format=kind, dpi=110, metadata=metadata)
    return written.getvalue()


def _panel(panel: Any, result: Mapping[str, Any], axis: str) -> None:
    points: Sequence[Mapping[str, Any]] = result["points"]
    for curve, (colour, marker) in STYLES.items():
        theirs = [point for point in points if point["curve"] == curve]
        if theirs:
            panel.errorbar(
                [_place(point, axis) for point in theirs],
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
        _paper(panel, result["paper"])


def _paper(panel: Any, published: Sequence[Mapping[str, Any]]) -> None:
    """The paper's own points, hollow: another collection and another network, so only the shape compares."""
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


def _place(point: Mapping[str, Any], axis: str) -> float:
    """Where a point stands: AFDA of an inverted index, the share of documents read of anything else."""
    value = point[axis]
    return float(point["touched_fraction"] if value is None else value)
