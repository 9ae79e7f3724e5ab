"""Search options: the keyword arguments of the search methods, validated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from deepterms.errors import InvalidInput
from deepterms.schema.aligned import list_values
from deepterms.schema.index_spec import DEFAULT_RERANK
from deepterms.schema.tuning import SearchSetting, check_recall
from deepterms.search.filters import Filter, normalise_filter
from deepterms.search.rerank import FeatureSource, count_candidates

__all__ = ["SearchKeywords", "SearchOptions", "check_effort", "select_fields", "source_fields"]


class SearchKeywords(TypedDict, total=False):
    """The keyword arguments of the search methods; `SearchOptions` has the same fields, and their defaults."""

    k: int
    filter: Filter | None
    rerank: int | None
    rerank_from: FeatureSource | None
    effort: float | None
    recall: float | None
    min_score: float | None
    fields: Sequence[str] | None


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search; `SurrogateIndex.search` documents them in full.

    Attributes:
        k: number of hits.
        filter: any query of the engine, or a list of queries that must all match; kept as plain JSON.
        rerank: candidates to re-rank; None for the index's default.
        rerank_from: descriptors to re-rank with in the client.
        effort: share of the query's codewords to search for, largest weights first; None for the index's.
        recall: share of the ten nearest to find; None for the index's. Ignored if `rerank` or `effort` is given.
        min_score: hits below this score are dropped.
        fields: metadata fields to return; None for all.
        setting: how broadly to look, as chosen by `deepterms.search.promise`; not an option of the search methods.

    Raises:
        InvalidInput: an option is out of range.
    """

    k: int = 10
    filter: Filter | None = None
    rerank: int | None = None
    rerank_from: FeatureSource | None = None
    effort: float | None = None
    recall: float | None = None
    min_score: float | None = None
    fields: Sequence[str] | None = None
    setting: SearchSetting | None = None

    def __post_init__(self) -> None:
        if self.effort is not None:
            check_effort(self.effort)
        if self.recall is not None:
            check_recall(self.recall)
        if self.filter is not None:
            object.__setattr__(self, "filter", normalise_filter(self.filter))
        if self.min_score is not None and math.isnan(self.min_score):
            raise InvalidInput("min_score is NaN; expected a number, or None")
        if isinstance(self.fields, str):
            raise InvalidInput(
                f"fields is a single string, {self.fields!r}; expected a sequence of metadata field names"
            )
        if self.fields is not None:
            object.__setattr__(self, "fields", list_values(self.fields, "fields", ordered=False))
        if bad := [name for name in self.fields or () if not isinstance(name, str) or not name or "*" in name]:
            raise InvalidInput(f"fields has {bad[0]!r}; expected metadata field names such as 'year', without patterns")
        self.count_candidates(stores_vectors=True)

    @property
    def plain_filter(self) -> Mapping[str, Any] | None:
        """The filter, as plain JSON."""
        return cast("Mapping[str, Any] | None", self.filter)  # since `__post_init__`

    @property
    def share(self) -> float:
        """Share of the query's codewords to search for, unless a setting says how many."""
        return 1.0 if self.effort is None else self.effort

    def count_candidates(self, *, stores_vectors: bool, default: int = DEFAULT_RERANK) -> int:
        """Return the number of candidates to re-rank; 0 for no re-ranking.

        Args:
            stores_vectors: whether the index stores vectors.
            default: the index's default number of candidates.
        """
        usable = stores_vectors or self.rerank_from is not None
        return count_candidates(k=self.k, rerank=self.rerank, stores_vectors=usable, default=default)


def check_effort(effort: float) -> None:
    """Raise InvalidInput unless an effort is in (0, 1]."""
    if not 0 < effort <= 1:
        raise InvalidInput(
            f"effort is {effort}; expected more than 0 and at most 1, the share of codewords to search for"
        )


def source_fields(fields: Sequence[str] | None) -> list[str] | bool:
    """Build the ``_source`` part of a body that returns the selected metadata fields."""
    if fields is None:
        return ["metadata"]
    return [f"metadata.{name}" for name in fields] or False


def select_fields(metadata: Mapping[str, Any], fields: Sequence[str] | None) -> Mapping[str, Any]:
    """Select metadata fields like an engine's source filter: ``place.city`` is a member of ``place``."""
    return metadata if fields is None else _pick(metadata, fields, "")


def _pick(value: Any, fields: Sequence[str], path: str) -> Any:
    if isinstance(value, list):
        return [part for part in (_pick(item, fields, path) for item in value) if part not in ({}, [], None)]
    if not isinstance(value, Mapping):
        return None
    picked = {}
    for key, inner in value.items():
        own = f"{path}.{key}" if path else key
        if any(own == name or own.startswith(f"{name}.") for name in fields):
            picked[key] = inner
        elif any(name.startswith(f"{own}.") for name in fields):
            part = _pick(inner, fields, own)
            if part not in ({}, [], None):
                picked[key] = part
    return picked
