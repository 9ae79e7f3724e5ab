"""docs/choosing.md: its examples run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

PATH = Path(__file__).parents[2] / "docs" / "choosing.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    test = doctest.DocTestParser().get_doctest(block, {}, PATH.name, str(PATH), None)
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert outcome.attempted == 4
    assert not outcome.failed, "".join(report)
