"""Tests of schemas: their forms, their changes, and that the templates learn the same types."""

from __future__ import annotations

from typing import Any

import pytest

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.assets import load_asset
from deepterms.schema.index_spec import IndexMeta, IndexSpec
from deepterms.schema.layouts import LAYOUTS, find_layout
from deepterms.schema.metadata_schema import (
    DATE_FORMAT,
    DECIMAL,
    carry_over,
    change_schema,
    parse_analysis,
    parse_schema,
)
from deepterms.schema.metadata_values import find_misfit

SPEC = IndexSpec(dt.DeepPermutation(8, top_k=3), find_layout("words"))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_templates_learn_the_types_that_memory_learns(layout: Any) -> None:
    mappings = load_asset("index_templates", layout.resource).body["template"]["mappings"]
    learnt = {
        rule["match_mapping_type"]: rule["mapping"]
        for template in mappings["dynamic_templates"]
        for rule in template.values()
    }
    assert learnt == {
        "long": DECIMAL,
        "double": DECIMAL,
        "date": {"type": "date", "format": DATE_FORMAT},
        "string": {"type": "keyword"},
    }
    assert (mappings["date_detection"], mappings["dynamic_date_formats"]) == (True, [DATE_FORMAT])


def test_types_become_fields() -> None:
    schema = {"taken": "date", "n": "long", "place.city": "text", "place": {"properties": {"at": "geo_point"}}}
    assert parse_schema(schema) == {
        "taken": {"type": "date"},
        "n": {"type": "long", "coerce": False},
        "place": {"properties": {"city": {"type": "text"}, "at": {"type": "geo_point"}}},
    }
    assert parse_schema({"n": {"type": "long"}}) == {"n": {"type": "long"}}  # as the engine coerces
    assert parse_schema(None) == {}


@pytest.mark.parametrize(
    "schema",
    [
        "date",
        {"": "date"},
        {"a.": "date"},
        {"a*": "date"},
        {1: "date"},
        {"a": {}},
        {"a": {"type": 1}},
        {"a": None},
        {"a": {"type": "date", "format": {1, 2}}},
        {"a": ""},
        {"metadata.a": "date"},
        {"o": {"properties": {"a": 1}}},
    ],
)
def test_bad_schemas_are_rejected(schema: Any) -> None:
    with pytest.raises(InvalidInput, match="schema"):
        parse_schema(schema)


def test_changes_declare_and_withdraw() -> None:
    fields = parse_schema({"taken": "date", "place.city": "text", "place.zip": "keyword"})
    assert change_schema(fields, {}) == fields
    changed = change_schema(fields, {"taken": "keyword", "place.city": None, "nothing": None, "n": "byte"})
    assert changed == parse_schema({"taken": "keyword", "place.zip": "keyword", "n": "byte"})
    assert change_schema(fields, {"place.city": None, "place.zip": None}).keys() == {"taken"}


def test_learnt_fields_are_carried_over() -> None:
    fields = {
        "year": {"type": "long"},
        "own": {"type": "long", "coerce": False},
        "taken": {"type": "date"},
        "place": {"properties": {"n": {"type": "float"}, "city": {"type": "text"}}},
        "all": {"properties": {"x": {"type": "text"}}},
        "empty": {"type": "object"},
    }
    declared = parse_schema({"taken": "date", "place.city": "text", "all.x": "text"})
    assert carry_over(fields, declared=declared) == {
        "year": {"type": "double"},
        "own": {"type": "long", "coerce": False},
        "place": {"properties": {"n": {"type": "double"}}},
        "empty": {"type": "object"},
    }


def test_the_schema_is_part_of_the_spec_and_changes_no_other_fingerprint() -> None:
    assert SPEC.fingerprint == IndexSpec(SPEC.encoder, SPEC.layout, schema={}, analysis={}).fingerprint
    assert not {"schema", "analysis"} & SPEC.to_meta().keys()
    spec = IndexSpec(SPEC.encoder, SPEC.layout, schema=parse_schema({"a": "date"}), analysis={"analyzer": {}})
    meta = IndexMeta.parse(spec.to_meta(), name="x")
    assert IndexSpec.from_meta(meta, encoder=spec.encoder) == spec != SPEC
    assert meta.describes(spec)
    assert not meta.describes(SPEC)


def test_names_of_the_layout_are_taken() -> None:
    taken: dict[str, Any] = {"analyzer": {"codeword_frequencies": {}}}
    with pytest.raises(InvalidInput, match=r"'codeword_frequencies'.*rename"):
        parse_analysis({"analyzer": {"codeword_frequencies": {}}}, template=taken)
    with pytest.raises(InvalidInput, match="analysis has the form"):
        parse_analysis({"analyzer": 1})


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"n": 2**53, "m": -(2**53)}, ""),
        ({"a": [{"b": [1, 2**53 + 1]}]}, "the field 'a.b' has the integer 9007199254740993"),
        ({"n": True, "t": "ü" * 16_383}, ""),
        ({"t": "ü" * 16_384}, "the field 't' has a text of 32,768 bytes"),
        ({"id": 2**60, "place": {"id": 2**60}, "place.id": 2**60}, ""),
        ({"id": 2**64}, "more than 64 bits"),
        ({"text": "x" * 100_000}, ""),
        ({"place": {"other": 2**60}}, "the field 'place.other'"),
    ],
)
def test_misfits(metadata: dict[str, Any], reason: str) -> None:
    schema = parse_schema({"id": "long", "place.id": "unsigned_long", "text": "text"})
    found = find_misfit(metadata, schema)
    assert reason in found
    assert bool(reason) == bool(found)
