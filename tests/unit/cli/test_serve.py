"""Ctrl-C stops the server, whenever it is pressed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

import deepterms as dt
from deepterms.cli.serve import run_server


def press_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """Press Ctrl-C at the first call of a function of uvicorn; the returned list says whether it was called."""
    called: list[str] = []
    real: Callable[..., Any] = getattr(owner, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if not called:
            called.append(name)
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, interrupted)
    return called


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(uvicorn.Config, "get_loop_factory", id="before the event loop"),
        pytest.param(uvicorn.Server, "capture_signals", id="in the event loop, before uvicorn takes the signal"),
        pytest.param(uvicorn.Config, "load", id="before the application starts"),
        pytest.param(uvicorn.Server, "on_tick", id="while it serves"),
    ],
)
def test_ctrl_c_stops_the_server_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], owner: Any, name: str
) -> None:
    before = signal.getsignal(signal.SIGINT)
    called = press_in(monkeypatch, owner, name)
    index: Any = dt.MemoryIndex(dt.DeepPermutation(8, top_k=4))
    run_server(index, None, photographs=[], port=0)
    assert called == [name]
    assert signal.getsignal(signal.SIGINT) is before
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2, said
    assert said[0].endswith("search page; press Ctrl-C to stop")
    assert said[1].endswith("HTTP API")
