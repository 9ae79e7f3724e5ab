"""Filters become plain JSON, the same in every method, or are rejected in one sentence that names the place."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.search.filters import normalise_filter
from deepterms.search.options import SearchOptions

ROWS = np.eye(4, dtype=np.float32)


class Colour(Enum):
    RED = "red"


def term(value: Any) -> dict[str, Any]:
    return {"term": {"metadata.x": value}}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (term(np.int64(5)), term(5)),
        (term(np.float32(0.5)), term(0.5)),
        (term(np.bool_(True)), term(True)),
        (term(np.str_("a")), term("a")),
        (term(Decimal("19.99")), term(19.99)),
        (term(Decimal("5")), term(5)),
        (term(Colour.RED), term("red")),
        (term(uuid.UUID(int=1)), term("00000000-0000-0000-0000-000000000001")),
        (term(PurePosixPath("a/b")), term("a/b")),
        (term(datetime.date(2018, 1, 2)), term("2018-01-02")),
        ({"term": {"metadata.x": {"value": np.int8(5)}}}, {"term": {"metadata.x": {"value": 5}}}),
        (
            {"range": {"metadata.x": {"gte": datetime.datetime(2018, 1, 2, tzinfo=datetime.timezone.utc), "lt": None}}},
            {"range": {"metadata.x": {"gte": "2018-01-02T00:00:00+00:00"}}},
        ),
        (
            {"range": {"metadata.x": {"gte": pd.Timestamp("2018-01-02"), "lt": np.datetime64("2019-01-02")}}},
            {"range": {"metadata.x": {"gte": "2018-01-02T00:00:00", "lt": "2019-01-02"}}},
        ),
        ({"terms": {"metadata.x": {3, 1, 2}}}, {"terms": {"metadata.x": [1, 2, 3]}}),
        ({"terms": {"metadata.x": frozenset(["b", "a"])}}, {"terms": {"metadata.x": ["a", "b"]}}),
        ({"terms": {"metadata.x": {"b", 2, "a", 1}}}, {"terms": {"metadata.x": [1, 2, "a", "b"]}}),
        ({"terms": {"metadata.x": (1, 2)}}, {"terms": {"metadata.x": [1, 2]}}),
        ({"terms": {"metadata.x": np.array([1, 2])}}, {"terms": {"metadata.x": [1, 2]}}),
        ({"terms": {"metadata.x": pd.Series(["a", "b"], index=[1, 0])}}, {"terms": {"metadata.x": ["a", "b"]}}),
        ({"terms": {"metadata.x": pl.Series([1, 2])}}, {"terms": {"metadata.x": [1, 2]}}),
        ({"terms": {"metadata.x": {"a": 1}.keys()}}, {"terms": {"metadata.x": ["a"]}}),
        ({"terms": {"metadata.x": range(2)}}, {"terms": {"metadata.x": [0, 1]}}),
        ({"ids": {"values": (7, np.int64(8), "9")}}, {"ids": {"values": ["7", "8", "9"]}}),
        ({"ids": {"values": {"b", "a"}}}, {"ids": {"values": ["a", "b"]}}),
        (MappingProxyType(term(5)), term(5)),
        ([term(5)], {"bool": {"filter": [term(5)]}}),
        (
            (term(5), {"exists": {"field": "metadata.y"}}),
            {"bool": {"filter": [term(5), {"exists": {"field": "metadata.y"}}]}},
        ),
        (
            {"bool": {"must": term(np.int8(1)), "must_not": (term(2),), "should": None}},
            {"bool": {"must": term(1), "must_not": [term(2)]}},
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_filter_becomes_plain_json(filter: Any, expected: Mapping[str, Any]) -> None:
    found = normalise_filter(filter)
    assert found == expected
    assert json.loads(json.dumps(found)) == expected
    assert normalise_filter(found) == found
    assert SearchOptions(filter=filter).plain_filter == expected


WRONG: list[tuple[Any, str]] = [
    (term(float("nan")), r"filter\.term\.metadata\.x is nan, which JSON cannot represent"),
    ({"range": {"metadata.x": {"gte": np.inf}}}, r"filter\.range\.metadata\.x\.gte is inf"),
    ({"terms": {"metadata.x": [1, float("nan")]}}, r"filter\.terms\.metadata\.x\[1\] is nan"),
    (term("\ud800"), "lone surrogate"),
    ({"term": {"metadata.\ud800": 1}}, "lone surrogate"),
    (term(2**63), "both engines hold integers"),
    (term(Decimal("0.12345678901234567890")), "more digits than a double holds"),
    (term(b"a"), "is a bytes"),
    (term(1j), "is a complex"),
    (term(object()), "is a object"),
    ({"terms": {"metadata.x": (number for number in range(2))}}, "is a generator"),
    ({"terms": {"metadata.x": pd.DataFrame({"a": [1]})}}, "is a DataFrame"),
    (term(None), r"filter\.term\.metadata\.x looks for None"),
    (term(pd.NA), r"filter\.term\.metadata\.x looks for None"),
    ({"term": {"metadata.x": {"value": None}}}, "looks for None"),
    ({"prefix": {"metadata.x": None}}, "looks for None"),
    ({"terms": {"metadata.x": [1, None]}}, "looks for None"),
    ({"bool": {"must": [{"bool": {"should": [term(None)]}}]}}, r"filter\.bool\.must\[0\]\.bool\.should\[0\]\.term\."),
    ({"term": {3: 1}}, "field name 3, a int; expected a text"),
    ({"ids": {"values": [None]}}, "id of a document cannot be None"),
    ({}, r"filter has \[\]"),
    ({**term(1), "match_all": {}}, r"filter has \['match_all', 'term'\]: pass a list"),
    ([], "empty list"),
    ([term(1), "x"], r"filter\[1\] is a str"),
    ([[term(1)]], r"filter\[0\] is a list"),
    ("metadata.x:1", "filter is a str"),
    (5, "filter is a int"),
    ({term(1)["term"]["metadata.x"]}, "filter is a set"),
    (np.array([1]), "filter is a ndarray"),
]


@pytest.fixture
def index() -> dt.MemoryIndex:
    index = dt.MemoryIndex(dt.DeepPermutation(4, top_k=2))
    index.add(["a", "b", "c", "d"], ROWS, [{"x": number, "y": f"y{number}"} for number in range(4)])
    return index


METHODS: dict[str, Callable[[dt.MemoryIndex, Any], Any]] = {
    "search": lambda index, filter: index.search(ROWS[0], filter=filter),
    "search_many": lambda index, filter: index.search_many(ROWS, filter=filter),
    "search_by_id": lambda index, filter: index.search_by_id("a", filter=filter),
    "search_all": lambda index, filter: list(index.search_all(ROWS[0], filter=filter)),
    "count": lambda index, filter: index.count(filter=filter),
    "delete_by_filter": lambda index, filter: index.delete_by_filter(filter),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("filter", "message"), WRONG, ids=lambda value: repr(value)[:60])
def test_what_is_no_filter_is_rejected_in_one_sentence(
    index: dt.MemoryIndex, filter: Any, message: str, method: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        METHODS[method](index, filter)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)
    assert index.count() == 4


def test_every_method_takes_the_same_filters(index: dt.MemoryIndex) -> None:
    filter: Any = [{"terms": {"metadata.x": {np.int64(0), 1, 2}}}, {"range": {"metadata.x": {"lt": Decimal("2")}}}]
    assert index.search(ROWS[0], filter=filter).ids == ["a"]
    assert [hits.ids for hits in index.search_many(ROWS, filter=filter)] == [["a"], ["b"], [], []]
    assert [hit.id for hit in index.search_all(ROWS[1], filter=filter)] == ["b"]
    assert index.count(filter=filter) == 2
    assert index.delete_by_filter(filter) == dt.WriteReport(2)
    assert index.count() == 2


def test_a_deep_filter_is_rejected() -> None:
    deep: Any = {"match_all": {}}
    for _ in range(1_000):
        deep = {"bool": {"filter": [deep]}}
    with pytest.raises(InvalidInput, match="nested deeper than 100 levels"):
        normalise_filter(deep)


def test_fields_may_be_in_any_container(index: dt.MemoryIndex) -> None:
    for fields in (["x"], ("x",), {"x"}, np.array(["x"]), pd.Index(["x"]), iter(["x"]), {"x": 1}.keys()):
        assert dict(index.search(ROWS[1], fields=fields)[0].metadata) == {"x": 1}  # type: ignore[arg-type]
