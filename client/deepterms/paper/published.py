"""The points of the paper's Figure 1, read off the printed curves.

Amato, Bolettieri, Carrara, Falchi, Gennaro, "Large-Scale Image Retrieval with Elasticsearch", SIGIR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIGURE1", "PublishedPoint"]

VOCABULARY_SIZE = 4_096  # in the paper: R-MAC with 2,048 dimensions, CReLU


@dataclass(frozen=True)
class PublishedPoint:
    """A point of Figure 1: INRIA Holidays with a million distractors, R-MAC on ResNet-101.

    Attributes:
        curve: name of the curve.
        setting: of the parameter that varies along the curve.
        mean_average_precision: read off the plot.
        accessed_fraction: position on the axis; None for a horizontal line.
        accessed_from: "read off", or "computed" if it is the minimum of Σ d_i² / V, which is (K / V)².
    """

    curve: str
    setting: str
    mean_average_precision: float
    accessed_fraction: float | None
    accessed_from: str


def _compute_point(top_k: int, mean_average_precision: float) -> PublishedPoint:
    minimum = (top_k / VOCABULARY_SIZE) ** 2
    return PublishedPoint("deep permutations, CReLU", f"K={top_k}", mean_average_precision, minimum, "computed")


FIGURE1 = (
    PublishedPoint("exact", "", 0.843, None, ""),
    _compute_point(42, 0.417),
    _compute_point(100, 0.628),
    _compute_point(200, 0.744),
    _compute_point(400, 0.808),
    PublishedPoint("IVFPQ, own codebooks", "", 0.81, 1e-2, "read off"),
    PublishedPoint("IVFPQ, foreign codebooks", "", 0.74, 1e-2, "read off"),
)
