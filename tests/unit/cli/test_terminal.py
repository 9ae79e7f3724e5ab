"""Notes about stages replace the progress bars where those are not shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deepterms.cli import terminal


@pytest.mark.parametrize(("is_terminal", "printed"), [(False, "12 photographs fetched\n"), (True, "")])
def test_stages_are_noted_only_without_a_terminal(
    is_terminal: bool, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(terminal, "_notes", Console(file=stream, force_terminal=is_terminal))
    terminal.note_stage("12 photographs fetched")
    assert stream.getvalue() == printed
