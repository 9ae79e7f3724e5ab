"""docs/how-it-works.md: its examples run, and its diagrams are those that docs/diagrams.py draws now."""

from __future__ import annotations

import doctest
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
DRAWN = runpy.run_path(str(DOCS / "diagrams.py"))["draw_all"]()


def test_the_examples_run() -> None:
    examples = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, "how-it-works.md", None, None)
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert outcome.attempted == 8
    assert not outcome.failed, "".join(report)


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_diagram(name: str) -> None:
    """What a diagram shows is computed, so it must be drawn again when the code computes something else."""
    file = DOCS / "pictures" / name
    assert file.read_text(encoding="utf-8") == DRAWN[name].svg(), "run: python docs/diagrams.py"
    root = ElementTree.parse(file).getroot()
    height = float(root.attrib["viewBox"].split()[3])
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(element.attrib["x"]) < 720
        assert 0 < float(element.attrib["y"]) < height


def test_the_alternative_texts_describe_the_pictures() -> None:
    texts = {Path(path).name: text for text, path in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", PAGE)}
    assert texts.keys() == {*DRAWN, "regions.jpg"}
    surrogate = DRAWN["encoding.svg"].description.rpartition(": ")[2]
    assert surrogate in texts["encoding.svg"]
    scores = re.findall(r"scores (\d+)", DRAWN["searching.svg"].description)
    assert f"{scores[0]}, {scores[1]} and {scores[2]}" in texts["searching.svg"]
    assert "They share 3 words" in DRAWN["pivots.svg"].description
    assert "share three" in texts["pivots.svg"]
    assert (DOCS / "pictures" / "regions.jpg").is_file()
