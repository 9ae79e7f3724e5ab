from __future__ import annotations

import pytest

from deepterms.engines import Cluster, Engine, reason
from deepterms.errors import InvalidInput, UnsupportedEngine
from deepterms.layouts import LAYOUTS, layout_named


def test_names() -> None:
    words = layout_named("words")
    assert words.resource == "deepterms-words-v1"
    assert words.index_name("holidays") == "deepterms-words-v1-holidays-000001"


@pytest.mark.parametrize("name", ["", "Upper", "a b", "_x", "a*b", "a,b", "x" * 201, "a/b", "."])
def test_names_that_engines_refuse(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name an index"):
        layout_named("words").index_name(name)


def test_an_unknown_layout_names_the_known() -> None:
    with pytest.raises(InvalidInput, match="frequencies, words"):
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


def test_what_an_engine_lacks_is_said() -> None:
    with pytest.raises(
        UnsupportedEngine, match=r"Elasticsearch 9\.2\.0 does not have the layout 'frequencies'; it has"
    ):
        Engine("elasticsearch", (9, 2, 0)).require(layout_named("frequencies"))
    with pytest.raises(UnsupportedEngine, match="too old"):
        _ = Engine("elasticsearch", (7, 17, 0)).default_layout


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
