"""Findings on pivots: whether they are there, and whether they are still a fair sample of what the index holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepterms.doctor.findings import Finding
from deepterms.results import IndexStats

__all__ = ["judge_lists", "judge_orphans", "judge_pivots", "judge_reach", "measure_unevenness"]

# Fresh samples of photographs' descriptors gave 0.9 to 1.2.
UNEVEN_YELLOW = 3.0
# Of documents that are farther from every pivot than 1 in 20 was at first.
FAR_YELLOW = 0.15
# Fewer pairs of sampled documents that share a codeword say nothing certain: this many, to about 10 %.
MIN_PAIRS = 100


def judge_pivots(name: str, described: Mapping[str, Any], *, why: str = "") -> Finding:
    """The pivots of an index.

    Args:
        name: of the index.
        described: what its encoder's spec says of them.
        why: they cannot be had; empty if they can.
    """
    said = f"{described['count']:,} pivots of {described['dimensions']:,} dimensions"
    if not why:
        return Finding("green", name, f"{said}, whole and as their checksum says")
    advice = (
        f"restore them from a snapshot, or sample new ones: deepterms migrate {name} --repivot {described['count']}"
    )
    return Finding("red", name, f"{said} are needed. {why}", advice)


def judge_orphans(orphans: Iterable[str]) -> Finding | None:
    """Companions whose index is not there, or has other pivots; None if there are none."""
    names = ", ".join(sorted(orphans))
    if not names:
        return None
    advice = "if nobody is creating such an index just now, its creation was cut: delete this"
    return Finding("yellow", "pivots", f"no index needs {names}", advice)


def judge_lists(name: str, stats: IndexStats, *, pivots: int, single: bool = True) -> Finding:
    """How evenly the documents lie in the posting lists.

    Args:
        name: of the index.
        stats: of the index.
        pivots: how many there are.
        single: a word is the name of one pivot, so that all lists can be equally long.
    """
    longest = max((posting.share for posting in stats.longest_lists), default=0.0)
    text = f"the longest posting list holds {longest:.2%} of the documents"
    times = measure_unevenness(stats, pivots=pivots) if single else None
    if times is None:
        return Finding("green", name, text)
    text += f"; a query reads {times:.1f} times what it would in even lists"
    if times <= UNEVEN_YELLOW:
        return Finding("green", name, text)
    advice = f"the pivots are no fair sample of what was added since: deepterms migrate {name} --repivot {pivots}"
    return Finding("yellow", name, text, advice)


def measure_unevenness(stats: IndexStats, *, pivots: int) -> float | None:
    """Postings that a query shares with other documents, over what it would if all lists were equally long.

    1 plus the square of the lists' coefficient of variation. None if the sample is too small to say.
    """
    words, others = stats.terms_per_document, stats.documents - 1
    sampled_pairs = stats.sampled * (stats.sampled - 1) * words**2 / pivots if pivots else 0.0
    if others < 1 or sampled_pairs < 2 * MIN_PAIRS:
        return None
    # Of two different documents: each also shares its own words with itself.
    return ((1 + stats.list_variation**2) * stats.documents - pivots / words) / others


def judge_reach(name: str, *, far: float, bound: float, pivots: int) -> Finding:
    """How many documents lie far from every pivot.

    Args:
        name: of the index.
        far: the share of sampled documents whose cosine with the nearest pivot is below `bound`.
        bound: the cosine below which one in twenty was at first.
        pivots: how many there are.
    """
    text = (
        f"{far:.0%} of the documents are farther from every pivot (cosine below {bound:.2f}) than 1 in 20 was at first"
    )
    if far <= FAR_YELLOW:
        return Finding("green", name, text)
    advice = f"the collection has grown away from its pivots: deepterms migrate {name} --repivot {pivots}"
    return Finding("yellow", name, text, advice)
