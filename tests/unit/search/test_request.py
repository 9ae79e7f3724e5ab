"""Validation of search options; bodies, clauses and selected metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.schema.layouts import find_layout
from deepterms.search.body import count_clauses
from deepterms.search.options import SearchOptions, select_fields, source_fields
from deepterms.search.request import Search


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"rerank": -1}, "rerank is -1"),
        ({"effort": 0}, "effort is 0; expected more than 0"),
        ({"effort": 1.01}, "effort is 1.01"),
        ({"effort": float("nan")}, "effort is nan"),
        ({"min_score": float("nan")}, "min_score is NaN"),
        ({"fields": "year"}, "fields is a single string, 'year'"),
        ({"fields": ["year", "pa*"]}, r"fields has 'pa\*'"),
        ({"fields": [""]}, "fields has ''"),
    ],
)
def test_options_out_of_range_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SearchOptions(**options)


def test_the_body_requests_only_what_is_needed() -> None:
    encoder = dt.DeepPermutation(8, top_k=4)
    row = np.arange(1, 9, dtype=np.float32)[np.newaxis]
    index = IndexState("i", IndexSpec(encoder, find_layout("words"), "int8"), {"i-1": "u1"}, field="c_0123abcd")

    def body(**options: Any) -> dict[str, Any]:
        return Search.build(encoder.encode(row), row[0], index=index, options=SearchOptions(**options)).body

    assert [step["window_size"] for step in body()["rescore"]] == [200]
    assert "rescore" not in body(rerank=0)
    assert "min_score" not in body(min_score=3, rerank=0)  # it would disable the engine's pruning
    assert body(fields=["year", "place.city"])["_source"] == ["metadata.year", "metadata.place.city"]
    assert body(fields=[])["_source"] is False
    assert source_fields(None) == ["metadata"]


@pytest.mark.parametrize(
    ("fields", "picked"),
    [
        (None, {"a": 1, "b": {"c": [{"x": 1, "y": 2}, {"y": 3}], "d": None}, "e": {}}),
        (["a"], {"a": 1}),
        (["b.c.x"], {"b": {"c": [{"x": 1}]}}),
        (["b"], {"b": {"c": [{"x": 1, "y": 2}, {"y": 3}], "d": None}}),
        (["b.d", "e", "f"], {"b": {"d": None}, "e": {}}),
        (["a.z", "b.c.q"], {}),
        ([], {}),
    ],
)
def test_select_fields(fields: list[str] | None, picked: dict[str, Any]) -> None:
    metadata = {"a": 1, "b": {"c": [{"x": 1, "y": 2}, {"y": 3}], "d": None}, "e": {}}
    assert select_fields(metadata, fields) == picked


def test_clauses_are_counted_through_nested_bools() -> None:
    term = {"term": {"metadata.year": 1}}
    nested = {"bool": {"should": [term, term], "must_not": term, "minimum_should_match": 1}}
    assert count_clauses(term) == 1
    assert count_clauses({"bool": {"should": [term] * 5, "filter": [nested]}}) == 8
