"""Tuning: settings of searches with the recall and milliseconds measured for each, as JSON in an index's ``_meta``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepterms.errors import InvalidInput

__all__ = ["DEFAULT_RECALL", "PROMISED_HITS", "Compares", "SearchSetting", "Tuning", "TuningSource", "check_recall"]

DEFAULT_RECALL = 0.95
PROMISED_HITS = 10  # recall is the share of the ten nearest documents that are among the first ten hits
# A recall is kept within this: the queries that a setting was chosen with find it on average, and no less than this
# below it with 95 % confidence; the others, which verify it, find it within half of this.
WITHIN = 0.01

Compares: TypeAlias = Literal["candidates", "listed", "all"]
"""Which documents a search compares with the query by their vectors: the best by votes, all that share a codeword with
the query, or all of the index."""

TuningSource: TypeAlias = Literal["sample", "documents", "queries"]
"""What recall was measured with: a simulation on a sample at creation, documents of the index, or given queries."""


def check_recall(recall: float) -> float:
    """Return a recall that a search or an index is to keep, after checking it.

    Raises:
        InvalidInput: it is not above 0 and at most 1.
    """
    if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
        raise InvalidInput(
            f"recall is {recall!r}; expected more than 0 and at most 1: the share of the ten nearest documents to find"
        )
    return float(recall)


class SearchSetting(BaseModel):
    """How broadly a search looks, and what was measured.

    Attributes:
        compares: which documents are compared by their vectors.
        words: codewords of the query; 0 if all documents are compared.
        candidates: how many of the best by votes are compared, per shard; 0 unless `compares` is ``candidates``.
        recall: mean recall of the queries that settings were chosen with; if simulated on a sample, the lower bound.
        bound: lower bound of that mean, from a one-sided 95 % confidence interval.
        ms: median milliseconds of a search, as measured by the client, or as predicted.
        verified: mean recall of other queries, which no choice was made with; None if there were none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    compares: Compares = "candidates"
    words: int = Field(default=0, ge=0)
    candidates: int = Field(default=0, ge=0)
    recall: float = Field(default=0.0, ge=0, le=1)
    bound: float = Field(default=0.0, ge=0, le=1)
    ms: float = Field(default=0.0, ge=0)
    verified: float | None = Field(default=None, ge=0, le=1)

    def reaches(self, recall: float) -> bool:
        """Whether a search with this setting finds at least this share of the ten nearest."""
        if self.compares == "all":
            return True
        if self.recall < recall or self.bound < recall - WITHIN:
            return False
        return self.verified is None or self.verified >= recall - WITHIN / 2

    def __str__(self) -> str:
        if self.compares == "all":
            return "all documents compared"
        listed = "all listed" if self.compares == "listed" else f"{self.candidates:,} candidates"
        return f"{self.words:,} words, {listed}"


class Tuning(BaseModel):
    """The settings measured for an index, and the recall that its searches keep by default.

    Attributes:
        recall: the recall that a search keeps unless it asks for another.
        documents: number of documents of the index when recall was measured, or expected at its creation.
        queries: number of queries that settings were chosen with.
        source: what recall was measured with.
        settings: the cheapest setting for each recall, cheapest first; higher ones find more.
        exhaustive_ms: milliseconds of a search that compares all documents, as measured or predicted.
        carried: whether a migration carried this over from another index with the same codewords, so that the
            milliseconds are those of that index.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    recall: float = Field(default=DEFAULT_RECALL, gt=0, le=1)
    documents: int = Field(ge=0)
    queries: int = Field(ge=0)
    source: TuningSource
    settings: tuple[SearchSetting, ...] = ()
    exhaustive_ms: float = Field(default=0.0, ge=0)
    carried: bool = False

    @classmethod
    def parse(cls, held: Any) -> Tuning | None:
        """Read ``_meta.deepterms.tuning``; None if there is none, or if a later release wrote another form."""
        try:
            return cls.model_validate(dict(held)) if isinstance(held, Mapping) else None
        except ValidationError:
            return None

    def to_meta(self) -> dict[str, Any]:
        """Convert to the content of ``_meta.deepterms.tuning``."""
        return self.model_dump(mode="json")

    def choose(self, recall: float | None = None) -> SearchSetting:
        """Choose the cheapest setting that reaches a recall; to compare all documents if none does.

        Args:
            recall: None for that of the tuning.
        """
        wanted = self.recall if recall is None else recall
        enough = [setting for setting in self.settings if setting.reaches(wanted)]
        return min(enough, key=lambda setting: setting.ms, default=self.exhaustive)

    @property
    def exhaustive(self) -> SearchSetting:
        """To compare all documents."""
        return SearchSetting(compares="all", recall=1.0, bound=1.0, ms=self.exhaustive_ms)
