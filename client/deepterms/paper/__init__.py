"""The paper, reproduced: its figure and its tables on any collection, and one report of all of them."""

from deepterms.paper.drawing import draw_figure1
from deepterms.paper.figure1 import Figure1, Settings, figure1
from deepterms.paper.published import FIGURE1, PublishedPoint
from deepterms.paper.report import write_report
from deepterms.paper.results import figure1_result, read_results, write_figure1

__all__ = [
    "FIGURE1",
    "Figure1",
    "PublishedPoint",
    "Settings",
    "draw_figure1",
    "figure1",
    "figure1_result",
    "read_results",
    "write_figure1",
    "write_report",
]
