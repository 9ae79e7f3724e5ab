"""docs/api.md: its examples run, on MemoryIndex and on a real OpenSearch, and cover every public name."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected
from tests.unit.features.odd_files import photograph

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCK = re.compile(r"(<!-- index -->\n)?```python\n(.*?)```", re.DOTALL)
SETUP, *BLOCKS = [(bool(found[1]), found[2]) for found in BLOCK.finditer(PAGE)]
OF_AN_INDEX = "".join(block for of_an_index, block in BLOCKS if of_an_index)
OTHERS = [block for of_an_index, block in BLOCKS if not of_an_index]

CLASSES: tuple[type, ...] = (
    dt.SurrogateIndex,
    dt.MemoryIndex,
    dt.RMACExtractor,
    dt.features.FeatureStore,
    dt.DeepPermutation,
    dt.ScalarQuantization,
    dt.Pivots,
    dt.PivotPermutation,
    dt.PivotPairs,
    dt.PairCodewords,
    dt.TermFrequencies,
    dt.PCAWhitening,
)


def run(examples: str, names: dict[str, Any]) -> None:
    """Run the setup and some examples as doctests: they must print what the page shows."""
    test = doctest.DocTestParser().get_doctest(SETUP[1] + examples, names, "docs/api.md", "docs/api.md", None)
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert outcome.attempted > 6
    assert not outcome.failed, "".join(report)


@pytest.fixture
def free(opensearch: Any) -> Iterator[Any]:
    """An OpenSearch in which the page's index name is free, before and afterwards."""

    def clear() -> None:
        with contextlib.suppress(RequestRejected):  # no such alias
            for concrete in Cluster(opensearch).request("GET", "/_alias/holidays"):
                Cluster(opensearch).request("DELETE", f"/{concrete}")

    clear()
    yield opensearch
    clear()


def test_what_both_indices_do_in_memory() -> None:
    run(OF_AN_INDEX, {"index": dt.MemoryIndex(dt.DeepPermutation(4, top_k=3))})


def test_what_both_indices_do_in_a_cluster(opensearch: Any, unique_name: str) -> None:
    dt.deploy(opensearch)
    encoder = dt.DeepPermutation(4, top_k=3)
    run(OF_AN_INDEX, {"index": dt.SurrogateIndex.create(opensearch, unique_name, encoder=encoder, replicas=0)})


def test_the_index_in_a_cluster(free: Any, tmp_path: Path) -> None:
    (examples,) = [block for block in OTHERS if "SurrogateIndex.create" in block]
    run(examples, {"cluster": free, "folder": tmp_path})


@pytest.mark.slow
def test_everything_that_needs_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    for number in range(4):
        Image.fromarray(photograph(number)).save(tmp_path / "photos" / f"{number:02d}.jpg")
    examples = "".join(block for block in OTHERS if "cluster" not in block)
    run(examples, {"photos": tmp_path / "photos", "folder": tmp_path / "empty"})


def test_every_public_name_is_on_the_page() -> None:
    for module in (dt, dt.features, dt.evaluation):
        missing = [name for name in module.__all__ if not re.search(rf"\b{name}\b", PAGE)]
        assert not missing, f"{module.__name__}: {missing}"


@pytest.mark.parametrize("of", CLASSES, ids=lambda of: of.__name__)
def test_every_public_method_has_an_example(of: type) -> None:
    examples = "".join(block for _, block in BLOCKS)
    public = [
        name
        for name, member in inspect.getmembers(of)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]
    missing = [name for name in public if not re.search(rf"\.{name}\b", examples)]
    assert not missing, f"{of.__name__}: {missing}"
