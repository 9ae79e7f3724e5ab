"""Reproduce the paper: measure its figure and tables on any collection and combine the results into one report."""

from deepterms.paper.drawing import draw_figure1
from deepterms.paper.figure1 import Figure1, Settings, measure_figure1
from deepterms.paper.published import FIGURE1, PublishedPoint
from deepterms.paper.report import write_report
from deepterms.paper.results import build_figure1_result, read_results, write_figure1

__all__ = [
    "FIGURE1",
    "Figure1",
    "PublishedPoint",
    "Settings",
    "build_figure1_result",
    "draw_figure1",
    "measure_figure1",
    "read_results",
    "write_figure1",
    "write_report",
]
