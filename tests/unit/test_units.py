"""Bytes and seconds as text for people."""

from __future__ import annotations

import pytest

from deepterms.units import format_bytes, format_seconds


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_284, "1.28 kB"), (1.3e9, "1.3 GB"), (2.56e15, "2.56 PB")]
)
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (600, "10 min"), (36_000, "10 h"), (864_000, "10 days")])
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
