"""Wrong combinations of options: exit status 2, before anything is contacted."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from deepterms.cli.app import app


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate", "holidays"],
        ["migrate", "holidays", "--rollback", "--to", "words"],
        ["migrate", "holidays", "--rollback", "--drop-old"],
        ["migrate", "holidays", "--discard-writes", "--drop-old"],
        ["search", "holidays"],
        ["search", "holidays", "photo.jpg", "--id", "x"],
        ["search", "holidays", "--id", "x", "--filter", "{"],
        ["bench", "table1"],
        ["evaluate", "figure1"],
    ],
    ids=" ".join,
)
def test_invalid_usage(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments, env={"DEEPTERMS_URL": "http://127.0.0.1:9"})
    assert done.exit_code == 2, done.output


def test_paper_has_a_command_per_result() -> None:
    done = CliRunner().invoke(app, ["paper", "--help"], env={"TERM": "dumb"})
    assert done.exit_code == 0
    for command in ("figure1", "table1", "table2", "report"):
        assert command in done.output
