"""Date formats: strings to milliseconds since 1970, in those formats of the engines that have no locale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from deepterms.errors import InvalidInput

__all__ = ["DEFAULT_FORMAT", "parse_date", "parse_zone", "read_formats", "resolve_date"]

# The format of a `date` field that names none.
DEFAULT_FORMAT = "strict_date_optional_time||epoch_millis"

_YEAR = r"(?P<year>-?\d{4}|\+\d{5,9})"
_DATE = _YEAR + r"-(?P<month>\d\d)-(?P<day>\d\d)"
_TIME = r"T(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_ZONE = r"(?P<zone>Z|[+-]\d\d(?::\d\d(?::\d\d)?|\d\d)?)"
_NAMED: Mapping[str, str] = {
    "strict_date_optional_time": _YEAR
    + r"(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)"
    + rf"(?:[.,](?P<fraction>\d{{1,9}}))?)?)?{_ZONE}?)?)?)?",
    "strict_date_time": _DATE + _TIME + r"(?:\.(?P<fraction>\d{1,9}))?" + _ZONE,
    "strict_date_time_no_millis": _DATE + _TIME + _ZONE,
    "strict_date_hour_minute": _DATE + r"T(?P<hour>\d\d):(?P<minute>\d\d)",
    "strict_date_hour_minute_second": _DATE + _TIME,
    "epoch_millis": r"(?P<millis>-?\d{1,15})",
    "epoch_second": r"(?P<seconds>-?\d{1,12})",
}
# Parts of patterns such as yyyy-MM-dd'T'HH:mm; years of the era (y) begin with 1.
_LETTERS: Mapping[str, tuple[str, str]] = {
    "yyyy": ("year", r"(?!0000)\d{4}|\+\d{5,9}"),
    "uuuu": ("year", r"-?\d{4}|\+\d{5,9}"),
    "MM": ("month", r"\d\d"),
    "M": ("month", r"\d{1,2}"),
    "dd": ("day", r"\d\d"),
    "d": ("day", r"\d{1,2}"),
    "HH": ("hour", r"\d\d"),
    "H": ("hour", r"\d{1,2}"),
    "mm": ("minute", r"\d\d"),
    "m": ("minute", r"\d{1,2}"),
    "ss": ("second", r"\d\d"),
    "s": ("second", r"\d{1,2}"),
    "XXX": ("zone", r"Z|[+-]\d\d:\d\d"),
    "XX": ("zone", r"Z|[+-]\d{4}"),
    "X": ("zone", r"Z|[+-]\d\d(?:\d\d)?"),
}
_PARTS = re.compile(r"'([^']*)'|([A-Za-z])\2*|.", re.DOTALL)
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class DateFormat:
    """One format.

    Attributes:
        name: as users write it.
        pattern: of the whole text; its groups name the parts of a date, and may end in a number.
    """

    name: str
    pattern: re.Pattern[str]


@lru_cache(maxsize=1_000)
def read_formats(text: str) -> tuple[DateFormat, ...]:
    """Read formats as a mapping contains them: ``yyyy-MM-dd||epoch_millis``.

    Raises:
        InvalidInput: one of them is not supported here.
    """
    return tuple(DateFormat(name, _compile(name)) for name in text.split("||"))


def _compile(name: str) -> re.Pattern[str]:
    if name in _NAMED:
        return re.compile(_NAMED[name], re.ASCII)
    pattern = ""
    for number, part in enumerate(_PARTS.finditer(name)):
        text = part[0]
        if part[1] is not None:
            pattern += re.escape(part[1] or "'")
        elif part[2] is None:
            pattern += {"[": "(?:", "]": ")?"}.get(text) or re.escape(text)
        elif set(text) == {"S"}:
            pattern += rf"(?P<fraction{number}>\d{{{len(text)}}})"
        elif text in _LETTERS:
            group, digits = _LETTERS[text]
            pattern += f"(?P<{group}{number}>{digits})"
        else:
            raise InvalidInput(
                f"MemoryIndex cannot read the date format {name!r}; it reads {', '.join(_NAMED)}, and patterns of "
                "yyyy, MM, dd, HH, mm, ss, SSS and XXX. Use SurrogateIndex for other formats"
            )
    return re.compile(pattern, re.ASCII)


def parse_zone(text: str) -> tzinfo:
    """Parse a time zone: ``+01:00``, ``Z`` or ``Europe/Berlin``.

    Raises:
        InvalidInput: there is no such zone.
    """
    found = _parse_offset(text)
    if found is not None:
        return timezone(timedelta(seconds=found))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(f"no time zone {text!r}; expected one such as '+01:00' or 'Europe/Berlin'") from None


def _parse_offset(text: str) -> int | None:
    """Seconds east of UTC; None if the text is not an offset of at most 18 hours."""
    if text in ("Z", "UTC"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?", text)
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:])
    total = hours * 3600 + minutes * 60 + seconds
    return None if minutes > 59 or seconds > 59 or total > 18 * 3600 else (-total if found[1] == "-" else total)


def parse_date(text: str, formats: str, *, round_up: bool = False, zone: tzinfo = timezone.utc) -> int | None:
    """Parse a date to milliseconds since 1970; None if no format fits.

    Args:
        text: the date.
        formats: as for `read_formats`; the first that fits counts.
        round_up: whether hours and smaller parts that are missing have their largest value, as in ``lte``.
        zone: of a date without one.
    """
    return _parse(text, formats, round_up, zone)


@lru_cache(maxsize=100_000)
def _parse(text: str, formats: str, round_up: bool, zone: tzinfo) -> int | None:
    for one in read_formats(formats):
        found = one.pattern.fullmatch(text)
        if found is not None:
            parts = {key.rstrip("0123456789"): part for key, part in found.groupdict().items() if part is not None}
            millis = _to_millis(parts, round_up=round_up, zone=zone)
            if millis is not None:
                return millis
    return None


def _to_millis(parts: Mapping[str, str], *, round_up: bool, zone: tzinfo) -> int | None:
    if "millis" in parts:
        return int(parts["millis"])
    if "seconds" in parts:
        return int(parts["seconds"]) * 1000
    year, month, day = (int(parts.get(name, least)) for name, least in (("year", 1970), ("month", 1), ("day", 1)))
    hour, minute, second = (
        int(parts.get(name, most if round_up else 0)) for name, most in (("hour", 23), ("minute", 59), ("second", 59))
    )
    millis = int(parts["fraction"].ljust(3, "0")[:3]) if "fraction" in parts else (999 if round_up else 0)
    if not (1 <= month <= 12 and 1 <= day <= _count_days(year, month) and hour < 24 and minute < 60 and second < 60):
        return None
    offset = _parse_offset(parts["zone"]) if "zone" in parts else None
    if offset is None and "zone" in parts:
        return None
    local = _count_days_since_1970(year, month, day) * _DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + millis
    if offset is None:
        offset = _find_offset(local, zone)
    return local - offset * 1000


def _find_offset(local: int, zone: tzinfo) -> int:
    """The offset of a zone in seconds, at a local time in milliseconds."""
    # Zones have no rules for years that datetime cannot represent.
    bounded = min(max(local, -62_135_596_800_000), 253_402_300_799_000)
    at = datetime(1970, 1, 1) + timedelta(milliseconds=bounded)
    offset = at.replace(tzinfo=zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _count_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _count_days_since_1970(year: int, month: int, day: int) -> int:
    """Count days in the proleptic Gregorian calendar, for any year."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


_MATH = re.compile(r"([+\-/])(\d*)(.?)", re.DOTALL)
_UNITS = {"y": "year", "M": "month", "w": "week", "d": "day", "h": "hour", "H": "hour", "m": "minute", "s": "second"}


def resolve_date(text: str, formats: str, *, round_up: bool, zone: tzinfo, now: datetime) -> int:
    """Resolve a date of a filter, which may contain date math, to milliseconds since 1970.

    Args:
        text: such as ``2024-01-31``, ``now-1d/d`` or ``2024-01-31||+1M``.
        formats: as for `parse_date`.
        round_up: whether rounding and missing parts extend to the end of the unit.
        zone: of a date without one, and of rounding.
        now: the current time, with a zone.

    Raises:
        InvalidInput: the text has none of the formats, or its date math is malformed.
    """
    if text.startswith("now"):
        millis, math = int(now.timestamp() * 1000), text[3:]
    else:
        date, separator, math = text.partition("||")
        found = parse_date(date, formats, round_up=round_up and not separator, zone=zone)
        if found is None:
            raise InvalidInput(
                f"{date!r} is not a date of the format {formats}; write it like 2024-01-31 or 2024-01-31T12:00:00Z, or "
                "pass its format"
            )
        millis = found
    return _calculate(millis, math, round_up=round_up, zone=zone) if math else millis


def _calculate(millis: int, math: str, *, round_up: bool, zone: tzinfo) -> int:
    epoch, position = datetime(1970, 1, 1, tzinfo=timezone.utc), 0
    outside = InvalidInput(f"the date math {math!r} leaves the years 1 to 9999")
    try:
        at = (epoch + timedelta(milliseconds=millis)).astimezone(zone)
    except (ValueError, OverflowError):
        raise outside from None
    while position < len(math):
        step = _MATH.match(math, position)
        if step is None or step[3] not in _UNITS or (step[1] == "/" and step[2] not in ("", "1")):
            raise InvalidInput(f"{math!r} is not date math; expected steps such as '+1d', '-2M' or '/d'")
        position = step.end()
        unit = _UNITS[step[3]]
        try:
            if step[1] != "/":
                at = _shift(at, unit, int(step[2] or 1) * (-1 if step[1] == "-" else 1))
            else:
                at = _floor(at, unit)
                if round_up:
                    at = _shift(at, unit, 1) - timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            raise outside from None
    return (at - epoch) // timedelta(milliseconds=1)


def _shift(at: datetime, unit: str, count: int) -> datetime:
    if unit in ("year", "month"):
        months = at.year * 12 + at.month - 1 + count * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return at.replace(year=year, month=month + 1, day=min(at.day, _count_days(year, month + 1)))
    if unit in ("week", "day"):  # days of local time
        return at + timedelta(days=count * (7 if unit == "week" else 1))
    return (at.astimezone(timezone.utc) + timedelta(**{f"{unit}s": count})).astimezone(at.tzinfo)


def _floor(at: datetime, unit: str) -> datetime:
    if unit == "week":
        at -= timedelta(days=at.weekday())
    order = ["year", "month", "day", "hour", "minute", "second"]
    kept = order[: order.index("day" if unit == "week" else unit) + 1]
    least: dict[str, Any] = {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0, "microsecond": 0}
    return at.replace(**{name: value for name, value in least.items() if name not in kept})
