"""The pipeline of one index: its body, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

import deepterms as dt
from deepterms.schema.assets import load_asset
from deepterms.schema.index_pipeline import index_pipeline
from deepterms.schema.layouts import LAYOUTS, find_layout


def test_the_parameters_are_those_of_the_encoder() -> None:
    encoder = dt.DeepPermutation(2_048, top_k=100, crelu=False, binary=True)
    body = index_pipeline(encoder, layout=find_layout("codewords"), store_vectors=True)
    assert body is not None
    assert set(body) == {"description", "processors"}  # OpenSearch refuses _meta
    write, call = body["processors"]
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
    """An encoder that no pipeline can run."""

    dimensions = vocabulary_size = max_term_frequency = max_words = 4

    def encode(self, features: Any) -> dt.TermFrequencies:
        raise NotImplementedError

    encode_queries = encode

    def spec(self) -> dict[str, Any]:
        return {"type": "other"}


def test_another_encoder_has_no_raw_vectors() -> None:
    assert index_pipeline(Other(), layout=find_layout("words"), store_vectors=True) is None


@pytest.mark.parametrize(
    ("encoder", "before"),
    [(dt.DeepPermutation(4, top_k=2), ["set-encoder", "encode"]), (Other(), ["check-and-render"])],
)
def test_a_dense_vector_is_filled_after_everything_else(encoder: Any, before: list[str]) -> None:
    body = index_pipeline(encoder, layout=find_layout("words"), store_vectors=True, dense_vector=True)
    assert body is not None
    *others, last = body["processors"]
    assert [next(iter(processor.values()))["tag"] for processor in others] == before
    assert (last["script"]["tag"], last["script"]["params"]) == ("decode-vector", {"dimensions": 4})
    plain = index_pipeline(encoder, layout=find_layout("words"), store_vectors=True)
    assert (plain or {"processors": []})["processors"] == (others if plain else [])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_encode_pipelines_differ_only_in_the_pipeline_that_they_call(layout: Any) -> None:
    own = load_asset("ingest_pipelines", layout.encode_pipeline).body["processors"]
    words = load_asset("ingest_pipelines", "deepterms-encode-words-v1").body["processors"]
    assert own[0] == words[0]
    assert own[1]["pipeline"] == {**words[1]["pipeline"], "name": layout.resource}
