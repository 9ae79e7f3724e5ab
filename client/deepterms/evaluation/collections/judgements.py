"""What is right for each query, and what does not count, as every protocol of image retrieval states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deepterms.errors import InvalidInput, MissingExtra

__all__ = ["Averaging", "Box", "Judgements", "read_qrels"]

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Averaging: TypeAlias = Literal["precisions", "trapezoids"]
"""How AP is taken: see `deepterms.evaluation.metrics`."""


@dataclass(frozen=True)
class Judgements:
    """The protocol of a collection.

    Attributes:
        relevant: query → ids that are right, one at least.
        junk: query → ids that count neither as right nor as wrong: they are taken out of a ranking before its ranks are
            counted.
        images: query → id of the photograph that it is or is a part of; a query that is not named is its own.
        boxes: query → the part of that photograph; the whole of it where none is given.
        averaging: how the protocol takes AP.

    Raises:
        InvalidInput: no query, a query without a right answer, or one whose right answer is junk.
    """

    relevant: Mapping[str, frozenset[str]]
    junk: Mapping[str, frozenset[str]] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    averaging: Averaging = "precisions"

    def __post_init__(self) -> None:
        if not self.relevant:
            raise InvalidInput("no query has a relevant image; expected at least one")
        for query, relevant in self.relevant.items():
            if not relevant:
                raise InvalidInput(f"query {query!r} has no relevant image; leave it out")
            if both := relevant & self.junk.get(query, frozenset()):
                raise InvalidInput(f"query {query!r} has {min(both)!r} both as relevant and as junk")

    @property
    def queries(self) -> tuple[str, ...]:
        """Their names, in the order of `relevant`."""
        return tuple(self.relevant)

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """For `deepterms.evaluation.metrics`; take the junk out of the run first, with `without_junk`."""
        return {query: dict.fromkeys(sorted(relevant), 1) for query, relevant in self.relevant.items()}


def read_qrels(file: str | Path) -> Judgements:
    """Reads judgements in the format of TREC: lines of query, 0, id and grade; right from 1 on, junk below 0.

    Queries without a right answer are left out, as no average precision is defined for them.

    Raises:
        InvalidInput: no such file, or lines of another form.
        MissingExtra: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ModuleNotFoundError as error:
        raise MissingExtra("ir-measures", "evaluate") from error
    try:
        with Path(file).open(encoding="utf-8") as lines:
            judged: list[Any] = list(ir_measures.read_trec_qrels(lines))  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}; expected lines of: query 0 id grade") from error
    relevant: dict[str, set[str]] = {}
    junk: dict[str, set[str]] = {}
    for judgement in judged:
        if judgement.relevance:
            kind = relevant if judgement.relevance > 0 else junk
            kind.setdefault(judgement.query_id, set()).add(judgement.doc_id)
    return Judgements(
        relevant={query: frozenset(ids) for query, ids in relevant.items()},
        junk={query: frozenset(ids) for query, ids in junk.items() if query in relevant},
    )
