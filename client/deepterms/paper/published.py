"""What the paper reports, as far as it can be told: points of its Figure 1, read off the printed curves.

Amato, Bolettieri, Carrara, Falchi, Gennaro, "Large-Scale Image Retrieval with Elasticsearch", SIGIR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIGURE1", "PublishedPoint"]

VOCABULARY_SIZE = 4_096  # of the paper: R-MAC of 2,048 dimensions, CReLU


@dataclass(frozen=True)
class PublishedPoint:
    """A point of Figure 1: INRIA Holidays with a million distractors, R-MAC of ResNet-101.

    Attributes:
        curve: what the paper compares.
        setting: where on the curve.
        mean_average_precision: read off.
        accessed_fraction: where it stands on the axis; None for a line over all of it.
        accessed_from: "read off", or "computed" where it is the least that Σ d_i² / V can be, (K / V)².
    """

    curve: str
    setting: str
    mean_average_precision: float
    accessed_fraction: float | None
    accessed_from: str


def _permutation(top_k: int, found: float) -> PublishedPoint:
    least = (top_k / VOCABULARY_SIZE) ** 2
    return PublishedPoint("deep permutations, CReLU", f"K={top_k}", found, least, "computed")


FIGURE1 = (
    PublishedPoint("exact", "", 0.843, None, ""),
    _permutation(42, 0.417),
    _permutation(100, 0.628),
    _permutation(200, 0.744),
    _permutation(400, 0.808),
    PublishedPoint("IVFPQ, own codebooks", "", 0.81, 1e-2, "read off"),
    PublishedPoint("IVFPQ, foreign codebooks", "", 0.74, 1e-2, "read off"),
)
