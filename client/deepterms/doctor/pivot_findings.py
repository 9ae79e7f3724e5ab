"""Pivot findings: from the pivots and posting lists of an index to whether the pivots are intact and still fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepterms.doctor.findings import Finding
from deepterms.results import IndexStats

__all__ = ["judge_lists", "judge_orphans", "judge_pivots", "judge_reach", "measure_unevenness"]

# Freshly sampled pivots gave 0.9 to 1.2 for the descriptors of photographs.
UNEVEN_YELLOW = 3.0
# The share of documents that may lie farther from every pivot than 1 in 20 did originally.
FAR_YELLOW = 0.15
# Pairs of sampled documents that share a codeword: this many give an accuracy of about 10%, fewer are inconclusive.
MIN_PAIRS = 100


def judge_pivots(name: str, described: Mapping[str, Any], *, why: str = "") -> Finding:
    """Judge whether the pivots of an index are intact.

    Args:
        name: name of the index.
        described: the entry of the pivots in its encoder's spec.
        why: why they cannot be read; empty if they can.
    """
    pivots = f"{described['count']:,} pivots of {described['dimensions']:,} dimensions"
    if not why:
        return Finding("green", name, f"{pivots}, complete, checksum verified")
    advice = (
        f"restore them from a snapshot, or sample new ones: deepterms migrate {name} --repivot {described['count']}"
    )
    return Finding("red", name, f"{pivots} are required but cannot be read: {why}", advice)


def judge_orphans(orphans: Iterable[str]) -> Finding | None:
    """Judge pivot indices that no index uses; None if there are none."""
    names = ", ".join(sorted(orphans))
    if not names:
        return None
    advice = "delete it, unless an index is being created right now; it is left over from an interrupted creation"
    return Finding("yellow", "pivots", f"not used by any index: {names}", advice)


def judge_lists(name: str, stats: IndexStats, *, pivots: int, single: bool = True) -> Finding:
    """Judge how evenly documents are spread over the posting lists.

    Args:
        name: name of the index.
        stats: statistics of the index.
        pivots: the number of pivots.
        single: whether each word names one pivot, so that all lists can be equally long.
    """
    longest = max((posting.share for posting in stats.longest_lists), default=0.0)
    text = f"the longest posting list holds {longest:.2%} of the documents"
    times = measure_unevenness(stats, pivots=pivots) if single else None
    if times is None:
        return Finding("green", name, text)
    text += f"; a query reads {times:.1f} times as many postings as with lists of equal length"
    if times <= UNEVEN_YELLOW:
        return Finding("green", name, text)
    advice = (
        f"the pivots no longer represent the collection; sample new ones: deepterms migrate {name} --repivot {pivots}"
    )
    return Finding("yellow", name, text, advice)


def measure_unevenness(stats: IndexStats, *, pivots: int) -> float | None:
    """Measure the postings that a query shares with other documents, relative to posting lists of equal length.

    Returns:
        1 plus the squared coefficient of variation of the lists' lengths; None if the sample is too small.
    """
    words, others = stats.terms_per_document, stats.documents - 1
    sampled_pairs = stats.sampled * (stats.sampled - 1) * words**2 / pivots if pivots else 0.0
    if others < 1 or sampled_pairs < 2 * MIN_PAIRS:
        return None
    # Only pairs of different documents count, so the words that each document shares with itself are subtracted.
    return ((1 + stats.list_variation**2) * stats.documents - pivots / words) / others


def judge_reach(name: str, *, far: float, bound: float, pivots: int) -> Finding:
    """Judge how many documents lie far from every pivot.

    Args:
        name: name of the index.
        far: the share of sampled documents whose cosine with the nearest pivot is below `bound`.
        bound: the cosine below which one document in twenty lay originally.
        pivots: the number of pivots.
    """
    text = f"{far:.0%} of the documents have a cosine below {bound:.2f} with every pivot; originally it was 5%"
    if far <= FAR_YELLOW:
        return Finding("green", name, text)
    advice = (
        f"the collection has drifted away from its pivots; sample new ones: deepterms migrate {name} --repivot {pivots}"
    )
    return Finding("yellow", name, text, advice)
