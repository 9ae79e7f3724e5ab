from __future__ import annotations

import numpy as np
import pytest

import deepterms as dt
from deepterms.cluster.cluster import Cluster, Engine
from deepterms.cluster.responses import extract_reason
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.schema.assets import load_asset
from deepterms.schema.layouts import LAYOUTS, Layout, find_layout, select_default_layout, select_layout


def test_names_of_resources() -> None:
    words = find_layout("words")
    assert words.resource == "deepterms-words-v1"
    assert words.index_name("holidays") == "deepterms-words-v1-holidays-000001"


@pytest.mark.parametrize("name", ["", "Upper", "a b", "_x", "a*b", "a,b", "x" * 201, "a/b", "."])
def test_names_that_engines_reject(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name an index"):
        find_layout("words").index_name(name)


def test_an_unknown_layout_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="frequencies, words, rank_features, codewords"):
        find_layout("other")


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
def test_the_default_layout_of_each_engine(engine: Engine, default: str) -> None:
    assert select_default_layout(engine).name == default
    assert select_layout(engine, dt.DeepPermutation(8, top_k=3)).name == default
    assert select_layout(engine, dt.DeepPermutation(8, top_k=1)).name == "codewords"
    assert select_layout(engine, dt.DeepPermutation(8, top_k=3, binary=True)).name == "codewords"


def test_an_unsupported_layout_is_reported() -> None:
    with pytest.raises(
        UnsupportedEngine, match=r"Elasticsearch 9\.2\.0 does not have the layout 'frequencies'; it has"
    ):
        find_layout("frequencies").require_engine(Engine("elasticsearch", (9, 2, 0)))
    with pytest.raises(UnsupportedEngine, match="too old"):
        _ = select_default_layout(Engine("elasticsearch", (7, 17, 0)))
    with pytest.raises(UnsupportedEngine, match="too old"):
        select_layout(Engine("elasticsearch", (7, 17, 0)), dt.DeepPermutation(8, top_k=3, binary=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_layout_accepts_frequencies_up_to_its_limit(layout: Layout) -> None:
    layout.check_encoder(dt.ScalarQuantization(70_000, top_k=10, factor=layout.max_term_frequency))
    layout.check_encoder(dt.DeepPermutation(1_000, top_k=1_000, binary=True))


def test_text_limit_is_that_of_the_released_pipeline() -> None:
    """Otherwise, an index could be created whose pipeline rejects every document."""
    pipeline = load_asset("ingest_pipelines", "deepterms-words-v1").body
    (longest,) = [
        processor["script"]["params"]["most_words"]
        for processor in pipeline["processors"]
        if processor["script"]["tag"] == "check-words"
    ]
    words = find_layout("words")
    assert words.max_words == longest == 400_000
    words.check_encoder(dt.DeepPermutation(2_048, top_k=893))
    with pytest.raises(InvalidInput) as error:
        words.check_encoder(dt.DeepPermutation(2_048, top_k=2_048))
    assert str(error.value) == (
        "the layout 'words' stores documents of up to 400,000 words, but deep-permutation/d2048/crelu/k2048 can "
        "produce 2,098,176. Use an encoder with a smaller top_k or factor, or another layout: frequencies"
    )
    words.check_encoder(dt.DeepPermutation(2_048, top_k=2_048, binary=True))
    find_layout("frequencies").check_encoder(dt.DeepPermutation(2_048, top_k=2_048))
    with pytest.raises(InvalidInput, match="can produce 655,350"):
        words.check_encoder(dt.ScalarQuantization(100, factor=65_535))


PIVOTS = dt.Pivots(np.random.default_rng(0).standard_normal((40, 12)))


@pytest.mark.parametrize(
    "encoder",
    [
        dt.DeepPermutation(12, top_k=5),
        dt.DeepPermutation(12, top_k=5, binary=True),
        dt.PivotPermutation(PIVOTS, top_k=5, query_top_k=7),
        dt.PivotPermutation(PIVOTS, top_k=5, query_top_k=7, weights="ranks"),
        dt.PivotPairs(PIVOTS, top_k=5),
        dt.PairCodewords(12, rank_sum=9),
    ],
    ids=str,
)
def test_documents_stay_within_their_encoders_limits(encoder: dt.Encoder) -> None:
    matrix = encoder.encode(np.random.default_rng(1).standard_normal((30, 12))).matrix
    assert matrix.max() == encoder.max_term_frequency
    assert matrix.sum(axis=1).max() == encoder.max_words


@pytest.mark.parametrize(
    ("layout", "top_k", "sentence"),
    [
        (
            "rank_features",
            513,
            "the layout 'rank_features' stores term frequencies up to 512 exactly (rank_features keeps 9 significant "
            "bits), but deep-permutation/d600/crelu/k513 produces term frequencies up to 513. Use an encoder with a "
            "top_k or factor of at most 512, or another layout: frequencies, words",
        ),
        (
            "codewords",
            2,
            "the layout 'codewords' stores each codeword once, without a term frequency, but "
            "deep-permutation/d600/crelu/k2 produces term frequencies up to 2. Use an encoder with binary=True, or "
            "another layout: frequencies, words, rank_features",
        ),
    ],
)
def test_an_encoder_beyond_a_layouts_limits_is_rejected(layout: str, top_k: int, sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        find_layout(layout).check_encoder(dt.DeepPermutation(600, top_k=top_k))
    assert str(error.value) == sentence


def test_layout_names_differ() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_an_object_that_is_not_a_client_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="got str"):
        Cluster("http://localhost:9200")


def test_the_reason_is_the_innermost_cause() -> None:
    error = {
        "type": "script_exception",
        "reason": "runtime error",
        "caused_by": {"type": "illegal_argument_exception", "reason": "[check-terms] field [terms] is missing"},
    }
    assert extract_reason(error) == "illegal_argument_exception: [check-terms] field [terms] is missing"
    outer = {"root_cause": [{"type": "a", "reason": "b"}], "type": "c", "reason": "all shards failed"}
    assert extract_reason(outer) == "a: b"
    assert extract_reason("text") == "text"
