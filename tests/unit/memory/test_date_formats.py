"""Tests of dates: formats, rounding, zones and date math; tests/congruence compares them with the engines."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from deepterms.errors import InvalidInput
from deepterms.memory.date_formats import DEFAULT_FORMAT, parse_date, parse_zone, read_formats, resolve_date
from deepterms.schema.metadata_schema import DATE_FORMAT

NOW = datetime(2024, 3, 31, 12, 30, 15, tzinfo=timezone.utc)


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "formats", "expected"),
    [
        ("2024-02-29", DATE_FORMAT, "2024-02-29T00:00:00+00:00"),
        ("2024-01-01T10:00:00.123456789", DATE_FORMAT, "2024-01-01T10:00:00.123+00:00"),
        ("2024-01-01T10:00-05:30", DATE_FORMAT, "2024-01-01T15:30:00+00:00"),
        ("2024-01-01T10:00:00+01", DATE_FORMAT, "2024-01-01T09:00:00+00:00"),
        ("2024-05", DEFAULT_FORMAT, "2024-05-01T00:00:00+00:00"),
        ("1714521600000", DEFAULT_FORMAT, "2024-05-01T00:00:00+00:00"),
        ("1714521600", "epoch_second", "2024-05-01T00:00:00+00:00"),
        ("1/5/2024 7", "d/M/yyyy H", "2024-05-01T07:00:00+00:00"),
        ("05:2024", "dd.MM.yyyy||MM:yyyy", "2024-05-01T00:00:00+00:00"),
    ],
)
def test_formats(text: str, formats: str, expected: str) -> None:
    assert parse_date(text, formats) == millis(expected)


@pytest.mark.parametrize(
    "text",
    [
        "2018",
        "2018-05",
        "2024-02-30",
        "2023-02-29",
        "2024-13-01",
        "2024-01-01T24:00",
        "2024-01-01T10:60",
        "2024-1-1",
        "2024-01-01T10:00:00.12",
        "2024-01-01 10:00",
        "2024-01-01Z",
        "2024-01-01T10:00+18:01",
        "",
        "٢٠٢٤-01-01",
        "1e3",
    ],
)
def test_incomplete_and_impossible_dates_have_no_learnt_format(text: str) -> None:
    assert parse_date(text, DATE_FORMAT) is None


def test_years_beyond_those_of_datetime() -> None:
    assert parse_date("0000-01-01", DATE_FORMAT) == -62_167_219_200_000
    assert parse_date("+12024-01-01", DATE_FORMAT) == 317_273_587_200_000
    assert parse_date("0000-01-01", DATE_FORMAT, zone=parse_zone("Europe/Rome")) is not None


@pytest.mark.parametrize(
    ("text", "round_up", "expected"),
    [
        ("2024-01-31", True, "2024-01-31T23:59:59.999+00:00"),
        ("2024-01-31T10:00:00", True, "2024-01-31T10:00:00.999+00:00"),
        ("2024-01-31||+1M", False, "2024-02-29T00:00:00+00:00"),
        ("2024-01-31||/M", True, "2024-01-31T23:59:59.999+00:00"),
        ("2024-01-31||/w", False, "2024-01-29T00:00:00+00:00"),
        ("now-1y/d", False, "2023-03-31T00:00:00+00:00"),
        ("now/h", True, "2024-03-31T12:59:59.999+00:00"),
        ("now-90s", False, "2024-03-31T12:28:45+00:00"),
        ("now+2w-1d", False, "2024-04-13T12:30:15+00:00"),
    ],
)
def test_rounding_and_math(text: str, round_up: bool, expected: str) -> None:
    assert resolve_date(text, DATE_FORMAT, round_up=round_up, zone=timezone.utc, now=NOW) == millis(expected)


def test_zones() -> None:
    rome = parse_zone("Europe/Rome")
    for text, round_up, expected in (
        ("2024-03-31", False, "2024-03-30T23:00+00:00"),
        ("now/d", True, "2024-03-31T21:59:59.999+00:00"),  # on this day, clocks go forward
        ("now-1d", False, "2024-03-30T13:30:15+00:00"),
    ):
        assert resolve_date(text, DATE_FORMAT, round_up=round_up, zone=rome, now=NOW) == millis(expected)
    with pytest.raises(InvalidInput, match="no time zone"):
        parse_zone("Europe/Nowhere")


@pytest.mark.parametrize(
    "text", ["now-", "now/q", "now/2d", "now1d", "2024-01-01||x", "abc", "", "now+99999y", "9999999"]
)
def test_malformed_bounds_are_errors(text: str) -> None:
    with pytest.raises(InvalidInput, match="date"):
        resolve_date(text, DATE_FORMAT, round_up=False, zone=timezone.utc, now=NOW)


def test_formats_with_a_locale_are_named() -> None:
    with pytest.raises(InvalidInput, match="cannot read the date format 'EEE, dd MMM yyyy'"):
        read_formats("EEE, dd MMM yyyy")
