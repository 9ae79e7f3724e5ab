"""Tests of the body of an index's pipeline, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import deepterms as dt
from deepterms.schema.assets import load_asset
from deepterms.schema.index_pipeline import build_index_pipeline
from deepterms.schema.index_spec import IndexSpec
from deepterms.schema.layouts import LAYOUTS, find_layout


def test_the_parameters_are_those_of_the_encoder() -> None:
    encoder = dt.DeepPermutation(2_048, top_k=100, crelu=False, binary=True)
    body = build_index_pipeline(IndexSpec(encoder, find_layout("codewords")))
    assert set(body) == {"description", "processors"}  # OpenSearch rejects _meta
    check, write, call = body["processors"]
    assert len(check["script"]["params"]["fingerprint"]) == 8
    assert write["set"]["field"] == "encoder"
    assert write["set"]["value"] == {
        "dimensions": 2_048,
        "top_k": 100,
        "crelu": False,
        "binary": True,
        "vectors": True,
    }
    assert call["pipeline"]["name"] == "deepterms-encode-codewords-v1"


class Other:
    """An encoder that no pipeline implements."""

    dimensions = vocabulary_size = max_term_frequency = max_words = 4

    def encode(self, features: Any) -> dt.TermFrequencies:
        raise NotImplementedError

    encode_queries = encode

    def spec(self) -> dict[str, Any]:
        return {"type": "other"}


def test_other_encoders_accept_no_raw_vectors() -> None:
    check, call = build_index_pipeline(IndexSpec(Other(), find_layout("words")))["processors"]
    assert check["script"]["tag"] == "check-fingerprint"
    assert call["pipeline"]["name"] == "deepterms-words-v1"


def test_only_equal_specs_share_a_fingerprint() -> None:
    spec = IndexSpec(dt.DeepPermutation(8, top_k=3), find_layout("words"))
    same = IndexSpec(dt.DeepPermutation(8, top_k=3), find_layout("words"))
    assert spec == same
    assert spec.fingerprint == same.fingerprint
    others = [
        replace(spec, encoder=dt.DeepPermutation(8, top_k=2)),
        replace(spec, layout=find_layout("rank_features")),
        replace(spec, layout=replace(spec.layout, version=2)),
        replace(spec, vector_type="int8"),
        replace(spec, vector_type=None),
        replace(spec, vector_type="int8", compare="native"),
        replace(spec, sketch=True),
        replace(spec, rerank=7),
        replace(spec, extractor={"backbone": "x"}),
    ]
    assert spec not in others
    assert len({spec.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_native_vectors_pass_the_checks_of_the_layout_under_another_name() -> None:
    spec = IndexSpec(Other(), find_layout("codewords"), vector_type="int8", compare="native")
    processors = [next(iter(processor.values())) for processor in build_index_pipeline(spec)["processors"]]
    assert [processor["tag"] for processor in processors] == [
        "check-fingerprint",
        "check-native-vector",
        "check-and-render",
        "keep-native-vector",
    ]
    assert (processors[1]["params"], processors[3]["params"]) == ({"dimensions": 4}, {"bytes": 4})


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_encode_pipelines_differ_only_in_their_call(layout: Any) -> None:
    own = load_asset("ingest_pipelines", layout.encode_pipeline).body["processors"]
    words = load_asset("ingest_pipelines", "deepterms-encode-words-v1").body["processors"]
    assert own[0] == words[0]
    assert own[1]["pipeline"] == {**words[1]["pipeline"], "name": layout.resource}
