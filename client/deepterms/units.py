"""Turns numbers of bytes and seconds into text for people, in the unit that fits."""

from __future__ import annotations

__all__ = ["format_bytes", "format_seconds"]

_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_SECONDS = ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"))  # below this limit, this unit


def format_bytes(count: float) -> str:
    """Format with three significant digits, in powers of a thousand: ``1.3 GB``."""
    for unit in _BYTES[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:,.3g} {_BYTES[-1]}"


def format_seconds(seconds: float) -> str:
    """Format with three significant digits: ``90 s``, ``2.5 h``, ``3 days``."""
    for limit, unit, name in _SECONDS:
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86_400:,.3g} days"
