"""Tests of an index's mappings."""

from __future__ import annotations

from dataclasses import replace

import deepterms as dt
from deepterms.schema.index_mappings import build_index_mappings
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import find_layout

SPEC = IndexSpec(dt.DeepPermutation(64, top_k=2), find_layout("words"))


def test_codewords_have_an_alias_that_depends_on_the_spec() -> None:
    mappings = build_index_mappings(SPEC, {}, meta={"a": 1})
    alias = {f"c_{SPEC.fingerprint}": {"type": "alias", "path": "codewords"}}
    assert mappings == {"_meta": {"deepterms": {"a": 1}}, "properties": alias}


def test_rank_features_have_no_alias() -> None:
    spec = replace(SPEC, layout=find_layout("rank_features"))
    assert build_index_mappings(spec, {}, meta={})["properties"] == {}


def test_fields_of_the_template_and_the_user_are_kept() -> None:
    spec = replace(SPEC, sketch=True, schema={"taken": {"type": "date"}})
    learnt = {"dynamic": "false", "properties": {"taken": {"type": "keyword"}, "place": {"type": "keyword"}}}
    mappings = build_index_mappings(spec, {"_source": {"excludes": ["vector", "id"]}}, meta={}, learnt=learnt)
    assert mappings["_source"] == {"excludes": ["vector", "id", "sketch"]}
    assert (
        mappings["properties"].items()
        >= {
            "metadata": {
                "type": "object",
                "dynamic": "false",
                "properties": {"taken": {"type": "date"}, "place": {"type": "keyword"}},
            },
            "sketch": {"type": "binary", "doc_values": True},
        }.items()
    )


def test_the_engine_compares_native_vectors_in_place_of_the_binary_field() -> None:
    spec = replace(SPEC, vector_type="int8", compare="native")
    mappings = build_index_mappings(spec, {"_source": {"excludes": ["vector"]}}, meta={})
    assert "_source" not in mappings  # the template's
    assert mappings["properties"]["vector"] == {
        "type": "dense_vector",
        "element_type": "byte",
        "dims": 64,
        "index": True,
        "similarity": "cosine",
        "index_options": {"type": "flat"},
    }
