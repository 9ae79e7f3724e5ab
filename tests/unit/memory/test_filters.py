from __future__ import annotations

from typing import Any

import pytest

from deepterms.errors import InvalidInput
from deepterms.memory.field_mapping import FieldMapping
from deepterms.memory.filters import compile_filter

METADATA = {"year": 2018, "tags": ["sea", "sky"], "place": {"city": "Pisa", "rank": 1.5}, "own": True, "none": None}


def learn(metadata: dict[str, Any]) -> FieldMapping:
    fields = FieldMapping()
    assert fields.learn(metadata) == ""
    return fields


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({"match_all": {}}, True),
        ({"term": {"metadata.year": 2018}}, True),
        ({"term": {"metadata.year": "2018"}}, True),  # engines coerce it to the type of the field
        ({"term": {"metadata.year": {"value": 2019}}}, False),
        ({"term": {"metadata.tags": "sky"}}, True),
        ({"term": {"metadata.own": True}}, True),
        ({"term": {"metadata.own": "true"}}, True),
        ({"term": {"metadata.place.city": "Pisa"}}, True),
        ({"term": {"year": 2018}}, False),
        ({"terms": {"metadata.tags": ["land", "sea"]}}, True),
        ({"terms": {"metadata.tags": []}}, False),
        ({"range": {"metadata.year": {"gte": 2018, "lt": 2019}}}, True),
        ({"range": {"metadata.year": {"gt": 2018}}}, False),
        ({"range": {"metadata.tags": {"gt": 3}}}, True),  # as text
        ({"exists": {"field": "metadata.place.rank"}}, True),
        ({"exists": {"field": "metadata.none"}}, False),
        ({"prefix": {"metadata.place.city": "Pi"}}, True),
        ({"ids": {"values": ["x", "me"]}}, True),
        ({"bool": {"must_not": {"term": {"metadata.year": 2018}}}}, False),
        ({"bool": {"should": [{"term": {"metadata.year": 1}}, {"term": {"metadata.year": 2018}}]}}, True),
        ({"bool": {"should": [{"term": {"metadata.year": 1}}]}}, False),
        ({"bool": {"filter": [{"match_all": {}}], "should": [{"term": {"metadata.year": 1}}]}}, True),
        ({"bool": {}}, True),
    ],
)
def test_matches(query: dict[str, Any], matches: bool) -> None:
    assert compile_filter(query, learn(METADATA))("me", METADATA) is matches


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"geo_distance": {}}, "cannot evaluate the filter 'geo_distance'"),
        ({"term": {"a": 1, "b": 2}}, "names one field"),
        ({"range": {"metadata.year": {"from": 1}}}, "does not support"),
        ({"match_all": {}, "term": {}}, "one query"),
        ({"terms": {"metadata.year": 2018}}, "array"),
        ({"term": 5}, "is a mapping"),
        ({"term": {"metadata.own": 1}}, "has the type boolean, which has no value 1"),
        ({"term": {"metadata.year": "spring"}}, "has the type double, which has no value 'spring'"),
        ({"prefix": {"metadata.year": "20"}}, "'prefix' is for keyword fields"),
        ({"range": {"metadata.tags": {"gte": "now-1d"}}}, "'now-1d'.*type keyword.*schema="),
    ],
)
def test_filters_only_a_cluster_supports_are_rejected(query: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compile_filter(query, learn(METADATA))
