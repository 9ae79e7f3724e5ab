"""docs/choosing.md: its examples run, and its table of presets matches the code."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import get_args

from deepterms.encoders.presets import PRESETS, PresetName

PATH = Path(__file__).parents[2] / "docs" / "choosing.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    test = doctest.DocTestParser().get_doctest(block, {}, PATH.name, str(PATH), None)
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert outcome.attempted == 4
    assert not outcome.failed, "".join(report)


def test_the_presets_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert [name for name, *_ in rows] == list(get_args(PresetName))
    for name, documents, further, words, words_per_query, candidates in rows:
        preset = PRESETS[name]
        assert preset.documents_per_pivot == int(documents)
        assert preset.documents_per_extra_pivot == int(further)
        assert preset.top_k == int(words)
        assert preset.query_top_k == int(words_per_query)
        assert preset.rerank == int(candidates.replace(",", ""))
