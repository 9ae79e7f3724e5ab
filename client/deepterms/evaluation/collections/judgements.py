"""Turn the judgements of a retrieval protocol into relevant and ignored images per query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from deepterms.errors import InvalidInput
from deepterms.optional import require

__all__ = ["Averaging", "Box", "Judgements", "read_qrels"]

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""

Averaging: TypeAlias = Literal["precisions", "trapezoids"]
"""How AP is computed: see `deepterms.evaluation.metrics`."""


@dataclass(frozen=True)
class Judgements:
    """The queries of a collection and the images that are relevant to each.

    Attributes:
        relevant: query → ids of relevant images, at least one.
        junk: query → ids that count as neither relevant nor irrelevant; they are removed before ranks are counted.
        images: query → id of the photograph that contains it; a query that is not listed is a photograph itself.
        boxes: query → the region of that photograph; the whole photograph if not listed.
        averaging: how the protocol computes AP.

    Raises:
        InvalidInput: there are no queries, or a query has no relevant image or an image that is both relevant and junk.
    """

    relevant: Mapping[str, frozenset[str]]
    junk: Mapping[str, frozenset[str]] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    averaging: Averaging = "precisions"

    def __post_init__(self) -> None:
        if not self.relevant:
            raise InvalidInput("no query has a relevant image; expected at least one query")
        for query, relevant in self.relevant.items():
            if not relevant:
                raise InvalidInput(f"query {query!r} has no relevant image; remove it")
            if both := relevant & self.junk.get(query, frozenset()):
                raise InvalidInput(f"query {query!r} lists {min(both)!r} as both relevant and junk; keep one of them")

    @property
    def queries(self) -> tuple[str, ...]:
        """Names of the queries, in the order of `relevant`."""
        return tuple(self.relevant)

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """Qrels for `deepterms.evaluation.metrics`; first remove the junk from the run with `without_junk`."""
        return {query: dict.fromkeys(sorted(relevant), 1) for query, relevant in self.relevant.items()}


def read_qrels(file: str | Path) -> Judgements:
    """Read judgements in TREC format: lines of query, 0, id and grade, where 1 or more is relevant and below 0 is junk.

    Queries without a relevant image are skipped, because their average precision is undefined.

    Raises:
        InvalidInput: the file cannot be read, or its lines have any other format.
        MissingExtra: ir-measures is not installed.
    """
    with require("ir-measures", "evaluate"):
        import ir_measures
    try:
        with Path(file).open(encoding="utf-8") as lines:
            judged: list[Any] = list(ir_measures.read_trec_qrels(lines))  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {file}: {error}; expected lines of the form: query 0 id grade") from error
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
