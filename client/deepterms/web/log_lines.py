"""Text from clients into one line of a log, which it can neither end, forge nor colour."""

from __future__ import annotations

__all__ = ["printable"]

MAX_LENGTH = 300  # characters


def printable(text: str) -> str:
    """Escape line breaks, terminal codes, text that changes the direction of writing, and so on; shorten long text."""
    shown = text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in shown)
