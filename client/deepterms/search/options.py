"""What is asked of a search besides the query, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from deepterms.errors import InvalidInput
from deepterms.schema.index_spec import DEFAULT_RERANK
from deepterms.search.rerank import FeatureSource, rerank_window

__all__ = ["SearchKeywords", "SearchOptions", "check_effort", "chosen_fields", "source_fields"]


class SearchKeywords(TypedDict, total=False):
    """What the search methods are given by name; they are the fields of `SearchOptions`, and so are the defaults."""

    k: int
    filter: Mapping[str, Any] | None
    rerank: int | None
    rerank_from: FeatureSource | None
    effort: float
    min_score: float | None
    fields: Sequence[str] | None


@dataclass(frozen=True)
class SearchOptions:
    """What is asked of a search beside the query.

    Attributes:
        k: how many hits.
        filter: any query of the engine.
        rerank: how many candidates; None for what the index re-ranks usually.
        rerank_from: descriptors on this side to re-rank by.
        effort: the share of the query's codewords that is asked for, the largest first.
        min_score: hits below it are left out.
        fields: of the metadata, to be returned; None for all of it.

    Raises:
        InvalidInput: one of them is out of range.
    """

    k: int = 10
    filter: Mapping[str, Any] | None = None
    rerank: int | None = None
    rerank_from: FeatureSource | None = None
    effort: float = 1.0
    min_score: float | None = None
    fields: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_effort(self.effort)
        if self.min_score is not None and math.isnan(self.min_score):
            raise InvalidInput("min_score is NaN; expected a number, or None")
        if isinstance(self.fields, str):
            raise InvalidInput(f"fields is one text, {self.fields!r}; expected a sequence of names of metadata fields")
        if bad := [name for name in self.fields or () if not isinstance(name, str) or not name or "*" in name]:
            raise InvalidInput(f"fields has {bad[0]!r}; expected names of metadata fields, such as 'year', no patterns")
        self.window(stores_vectors=True)

    def window(self, *, stores_vectors: bool, usual: int = DEFAULT_RERANK) -> int:
        """How many candidates are re-ranked; 0 for none.

        Args:
            stores_vectors: whether the index keeps descriptors.
            usual: how many the index re-ranks where none is asked for.
        """
        usable = stores_vectors or self.rerank_from is not None
        return rerank_window(k=self.k, rerank=self.rerank, stores_vectors=usable, usual=usual)


def check_effort(effort: float) -> None:
    """Raise InvalidInput unless an effort is in (0, 1]."""
    if not 0 < effort <= 1:
        raise InvalidInput(f"effort is {effort}; expected more than 0, at most 1: the share of codewords kept")


def source_fields(fields: Sequence[str] | None) -> list[str] | bool:
    """The ``_source`` part of a body that brings back the chosen metadata."""
    if fields is None:
        return ["metadata"]
    return [f"metadata.{name}" for name in fields] or False


def chosen_fields(metadata: Mapping[str, Any], fields: Sequence[str] | None) -> Mapping[str, Any]:
    """The chosen part of a document's metadata, as an engine picks it: ``place.city`` is within ``place``."""
    return metadata if fields is None else _picked(metadata, fields, "")


def _picked(value: Any, fields: Sequence[str], path: str) -> Any:
    if isinstance(value, list):
        return [part for part in (_picked(item, fields, path) for item in value) if part not in ({}, [], None)]
    if not isinstance(value, Mapping):
        return None
    picked = {}
    for key, inner in value.items():
        own = f"{path}.{key}" if path else key
        if any(own == name or own.startswith(f"{name}.") for name in fields):
            picked[key] = inner
        elif any(name.startswith(f"{own}.") for name in fields):
            part = _picked(inner, fields, own)
            if part not in ({}, [], None):
                picked[key] = part
    return picked
