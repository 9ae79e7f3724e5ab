from __future__ import annotations

import pytest

import deepterms as dt
from deepterms.answers import reason
from deepterms.engines import Cluster, Engine
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.layouts import LAYOUTS, Layout, layout_named


def test_names() -> None:
    words = layout_named("words")
    assert words.resource == "deepterms-words-v1"
    assert words.index_name("holidays") == "deepterms-words-v1-holidays-000001"


@pytest.mark.parametrize("name", ["", "Upper", "a b", "_x", "a*b", "a,b", "x" * 201, "a/b", "."])
def test_names_that_engines_refuse(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name an index"):
        layout_named("words").index_name(name)


def test_an_unknown_layout_names_the_known() -> None:
    with pytest.raises(InvalidInput, match="frequencies, words, features, codewords"):
        layout_named("other")


@pytest.mark.parametrize(
    ("engine", "default"),
    [
        (Engine("opensearch", (3, 8, 0)), "frequencies"),
        (Engine("opensearch", (2, 10, 0)), "frequencies"),
        (Engine("opensearch", (2, 9, 0)), "words"),
        (Engine("elasticsearch", (9, 2, 0)), "words"),
        (Engine("elasticsearch", (8, 0, 0)), "words"),
    ],
)
def test_the_best_layout_that_the_engine_has(engine: Engine, default: str) -> None:
    assert engine.default_layout.name == default
    assert engine.layout_for(dt.DeepPermutation(8, top_k=3)).name == default
    assert engine.layout_for(dt.DeepPermutation(8, top_k=1)).name == "codewords"
    assert engine.layout_for(dt.DeepPermutation(8, top_k=3, binary=True)).name == "codewords"


def test_what_an_engine_lacks_is_said() -> None:
    with pytest.raises(
        UnsupportedEngine, match=r"Elasticsearch 9\.2\.0 does not have the layout 'frequencies'; it has"
    ):
        Engine("elasticsearch", (9, 2, 0)).require(layout_named("frequencies"))
    with pytest.raises(UnsupportedEngine, match="too old"):
        _ = Engine("elasticsearch", (7, 17, 0)).default_layout
    with pytest.raises(UnsupportedEngine, match="too old"):
        Engine("elasticsearch", (7, 17, 0)).layout_for(dt.DeepPermutation(8, top_k=3, binary=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_layout_holds_frequencies_up_to_its_limit(layout: Layout) -> None:
    layout.check_encoder(dt.DeepPermutation(70_000, top_k=layout.largest_frequency))
    layout.check_encoder(dt.DeepPermutation(1_000, top_k=1_000, binary=True))


@pytest.mark.parametrize(
    ("layout", "top_k", "sentence"),
    [
        (
            "features",
            513,
            "the layout 'features' holds term frequencies up to 512 exactly (rank_features keeps 9 significant bits); "
            "deep-permutation/d600/crelu/k513 gives term frequencies up to 513. Take an encoder with top_k at most "
            "512, or another layout: frequencies, words",
        ),
        (
            "codewords",
            2,
            "the layout 'codewords' holds each codeword once, without a term frequency; deep-permutation/d600/crelu/k2 "
            "gives term frequencies up to 2. Take an encoder with binary=True, or another layout: frequencies, words, "
            "features",
        ),
    ],
)
def test_an_encoder_that_a_layout_cannot_hold_is_refused(layout: str, top_k: int, sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        layout_named(layout).check_encoder(dt.DeepPermutation(600, top_k=top_k))
    assert str(error.value) == sentence


def test_layout_names_differ() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_something_else_than_a_client_is_refused() -> None:
    with pytest.raises(InvalidInput, match="got str"):
        Cluster("http://localhost:9200")


def test_the_reason_is_the_innermost_cause() -> None:
    error = {
        "type": "script_exception",
        "reason": "runtime error",
        "caused_by": {"type": "illegal_argument_exception", "reason": "[check-terms] field [terms] is missing"},
    }
    assert reason(error) == "illegal_argument_exception: [check-terms] field [terms] is missing"
    assert reason({"root_cause": [{"type": "a", "reason": "b"}], "type": "c", "reason": "all shards failed"}) == "a: b"
    assert reason("text") == "text"
