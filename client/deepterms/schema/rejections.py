"""Rejections: an engine's reason for rejecting a document's metadata, in a sentence that says what to do."""

from __future__ import annotations

import re

from deepterms.schema.metadata_values import MAX_KEYWORD_BYTES

__all__ = ["explain_rejection"]

_DECLARE = "when you create or migrate the index"
_MISFIT = re.compile(
    r"failed to parse field \[metadata\.(?P<field>[^\]]+)\] of type \[(?P<type>\w+)\]"
    r"(?:.*?Preview of field's value: '(?P<value>.*?)')?(?P<cause>$|: .*$)",
    re.DOTALL,
)
_TWO_TYPES = re.compile(r"mapper \[metadata\.([^\]]+)\] cannot be changed from type \[(\w+)\] to \[(\w+)\]")
_OBJECT = re.compile(r"object mapping for \[metadata\.([^\]]+)\] tried to parse field \[.*\] as object")
_OBJECT_MERGE = re.compile(r"can't merge a non[- ]object mapping \[metadata\.([^\]]+)\] with an object mapping")
_LIMIT = re.compile(r"Limit of total fields \[(\d+)\] has been exceeded")
_IMMENSE = re.compile(r'immense term in field="metadata\.([^"]+)"')
_TELLING = re.compile(r"out of range|decimal part|passed as String", re.IGNORECASE)  # causes worth quoting
_INTEGERS = frozenset({"long", "integer", "short", "byte", "unsigned_long"})
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_MAX_VALUE = 60  # characters to quote


def explain_rejection(reason: str) -> str:
    """Explain why the engine rejected a document; other reasons than those of metadata fields are returned unchanged.

    Args:
        reason: the engine's reason, as `deepterms.cluster.responses.extract_reason` gives it.
    """
    if found := _IMMENSE.search(reason):
        return (
            f"the field {found[1]!r} has a text of more than {MAX_KEYWORD_BYTES:,} bytes, which keyword fields cannot "
            f"hold; declare it as schema={{{found[1]!r}: 'text'}} {_DECLARE}"
        )
    if found := _MISFIT.search(reason):
        field, kind, value = found["field"], found["type"], found["value"]
        got = "" if value is None else f"; got {_shorten(value)!r}"
        cause = found["cause"].removeprefix(": ").split("\n")[0]
        why = f" ({cause})" if _TELLING.search(cause) and len(cause) < _MAX_VALUE else ""
        other = "double" if kind in _INTEGERS and value is not None and _NUMBER.fullmatch(value) else "keyword"
        return (
            f"the field {field!r} has the type {kind} in this index, which cannot hold this value{got}{why}. Correct "
            f"the value, or declare another type, as schema={{{field!r}: {other!r}}}, {_DECLARE}"
        )
    if found := _TWO_TYPES.search(reason):
        field, one, other = found.groups()
        return (
            f"the field {field!r} has values of two types in one document, {one} and {other}; expected one. Correct "
            f"the values, or declare the field, as schema={{{field!r}: 'keyword'}}, {_DECLARE}"
        )
    if found := _OBJECT.search(reason) or _OBJECT_MERGE.search(reason):
        return (
            f"the field {found[1]!r} holds objects in this index or document, but also a single value; rename one of "
            "them, so that a field has either"
        )
    if "java.math.BigInteger" in reason:
        return (
            "the metadata has an integer beyond 2^63 - 1, which this engine's ingest pipelines cannot carry; pass it "
            "as a string"
        )
    if found := _LIMIT.search(reason):
        return (
            f"the index would have more than {int(found[1]):,} fields, its limit. Put what differs from document to "
            "document into the values of one field, such as an array of strings, or raise the limit with field_limit= "
            f"(--field-limit) {_DECLARE}"
        )
    return reason


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
