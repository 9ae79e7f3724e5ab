"""JSON values: values of Python, numpy and pandas as the JSON that both engines store, or why they have none.

| Value | JSON |
|---|---|
| numpy and Arrow scalars, arrays, tuples, series | numbers, texts, lists |
| Decimal | the number that reads the same; rejected if it has more digits than a double holds |
| datetime, date, time, Timestamp | ISO 8601, with the offset of an aware time |
| timedelta | seconds |
| UUID, Path | text |
| Enum | its value |
| NA, NaT | null |

Containers are recognised by what they offer, not by their type, so that none of their libraries is imported.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, KeysView, Mapping, Set, ValuesView
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

from deepterms.errors import InvalidInput

__all__ = ["MAX_NAMES", "is_missing", "read_name", "to_json_object", "to_json_value"]

# Both engines' default of index.mapping.depth.limit: names in the path of a field, `metadata` included.
MAX_NAMES = 20
# OpenSearch also counts arrays directly inside arrays; Elasticsearch does not.
MAX_NESTED_ARRAYS = 20
# Not of metadata, whose depth is limited by the names: of a filter, far below Python's recursion limit.
MAX_DEPTH = 100

_MISSING = frozenset({"NAType", "NaTType"})
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def to_json_object(fields: Mapping[Any, Any], path: str = "metadata", *, names: int = 1) -> dict[str, Any]:
    """Convert the fields of an object that both engines can store.

    Args:
        fields: the object, such as the metadata of a document.
        path: path of the object, for the message.
        names: number of names in the path.

    Raises:
        InvalidInput: a name or a value cannot be stored; the message begins with the path of its field.
    """
    if names >= MAX_NAMES:
        raise InvalidInput(f"{path} is an object at depth {names}; both engines allow objects down to {MAX_NAMES - 1}")
    converted = {}
    for key, value in fields.items():
        name = key if type(key) is str else read_name(key, path)
        count = _count_names(name)
        if count + names > MAX_NAMES:
            raise InvalidInput(f"{path}.{name} has more than {MAX_NAMES} names, the depth that both engines allow")
        if not count:
            raise InvalidInput(
                f"{path} has the field name {name!r:.80}; both engines split names at dots, and reject parts that are "
                "empty or blank, and lone surrogates"
            )
        kind = type(value)
        if kind is str:
            converted[name] = value if value.isascii() else _check_text(value, f"{path}.{name}")
        elif value is None or kind is bool or (kind is int and _SMALLEST <= value <= _LARGEST):
            converted[name] = value
        elif isinstance(value, Mapping):
            converted[name] = to_json_object(value, f"{path}.{name}", names=names + count)
        else:
            converted[name] = _convert(value, f"{path}.{name}", names=names + count, arrays=0, sets=False)
    return converted


def to_json_value(value: Any, path: str) -> Any:
    """Convert a value of a request, such as a filter; sets become sorted lists, and names may be any text.

    Raises:
        InvalidInput: JSON cannot represent the value; the message begins with its path.
    """
    return _convert(value, path, names=None, arrays=0, sets=True)


def is_missing(value: Any) -> bool:
    """Whether a cell of a table holds no value: None, NaN, NA or NaT."""
    if value is None or type(value).__name__ in _MISSING:
        return True
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return False


def read_name(key: Any, path: str) -> str:
    """Return a key as the text that names a field.

    Raises:
        InvalidInput: the key is not a text.
    """
    if isinstance(key, str):
        return str.__str__(key)
    raise InvalidInput(f"{path} has the field name {key!r:.80}, a {type(key).__name__}; expected a text")


@lru_cache(maxsize=4_096)
def _count_names(name: str) -> int:
    """Count the names that the engines read in a key, by its dots; 0 if they reject it."""
    if not _is_text(name):
        return 0
    parts = name.rstrip(".").split(".")  # both engines ignore dots at the end
    return len(parts) if all(part.strip() for part in parts) else 0


def _convert(value: Any, path: str, *, names: int | None, arrays: int, sets: bool) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _convert(value.value, path, names=names, arrays=arrays, sets=sets)
    if isinstance(value, str):
        return _check_text(str.__str__(value), path)
    if isinstance(value, int):
        return _check_integer(int(value), path)
    if isinstance(value, float):
        return _check_number(float(value), path)
    if isinstance(value, Mapping):
        if names is not None:
            return to_json_object(value, path, names=names)
        return _convert_request(value, path, arrays)
    if isinstance(value, list | tuple | range | KeysView | ValuesView):
        return _convert_array(value, path, names=names, arrays=arrays, sets=sets)
    if sets and isinstance(value, Set):
        return _sort(_convert_array(value, path, names=names, arrays=arrays, sets=sets))
    if type(value).__name__ in _MISSING:
        return None
    plain = _to_plain(value, path)
    return _convert(plain, path, names=names, arrays=arrays, sets=sets)


def _convert_request(fields: Mapping[Any, Any], path: str, arrays: int) -> dict[str, Any]:
    if arrays >= MAX_DEPTH:
        raise InvalidInput(f"{path:.80}… is nested deeper than {MAX_DEPTH} levels; expected a simpler filter")
    converted = {}
    for key, value in fields.items():
        name = _check_text(read_name(key, path), f"a name in {path}")
        converted[name] = _convert(value, f"{path}.{name}", names=None, arrays=arrays + 1, sets=True)
    return converted


def _convert_array(values: Iterable[Any], path: str, *, names: int | None, arrays: int, sets: bool) -> list[Any]:
    deepest = MAX_DEPTH if names is None else MAX_NESTED_ARRAYS
    if arrays >= deepest:
        raise InvalidInput(f"{path:.80} has more than {deepest} arrays inside each other; expected fewer")
    return [
        _convert(value, f"{path}[{place}]", names=names, arrays=arrays + 1, sets=sets)
        for place, value in enumerate(values)
    ]


def _to_plain(value: Any, path: str) -> Any:
    """Convert a value of a library's type to one of Python's own types; raise InvalidInput if there is none."""
    if isinstance(value, Decimal):
        return _from_decimal(value, path)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else _from_numpy_time(value)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date, a Timestamp is a datetime
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidInput(f"{path} is a masked array; pass a list with None for what is masked")
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "mM" and value.ndim:
        return list(value)
    for method in () if isinstance(value, np.generic) else ("as_py", "tolist", "to_list", "to_pylist"):
        if hasattr(value, method) and not hasattr(type(value), "columns"):
            return getattr(value, method)()
    raise InvalidInput(
        f"{path} is a {type(value).__name__}; expected what JSON can represent: texts, numbers, booleans, None, lists "
        "and dicts of these, or dates"
    )


def _from_numpy_time(value: np.datetime64 | np.timedelta64) -> str | float:
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value))
    return float(value / np.timedelta64(1, "s"))


def _from_decimal(value: Decimal, path: str) -> int | float:
    if not value.is_finite():
        raise InvalidInput(_explain_not_finite(path, str(value)))
    if value == value.to_integral_value():
        return int(value)
    if Decimal(repr(float(value))) == value:  # the shortest text of the double: 19.99, not what it holds
        return float(value)
    raise InvalidInput(f"{path} is {value}, which has more digits than a double holds; pass float(…), or str(…)")


def _check_number(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise InvalidInput(_explain_not_finite(path, str(value)))
    return value


def _explain_not_finite(path: str, value: str) -> str:
    return f"{path} is {value}, which JSON cannot represent; leave it out, or pass None"


def _check_integer(value: int, path: str) -> int:
    if not _SMALLEST <= value <= _LARGEST:
        size = f"{value}" if -(10**30) < value < 10**30 else f"an integer of {value.bit_length()} bits"
        raise InvalidInput(f"{path} is {size}; both engines hold integers from −2^63 to 2^63 − 1: pass a float or text")
    return value


def _check_text(value: str, path: str) -> str:
    if not _is_text(value):
        raise InvalidInput(
            f"{path!r:.200} contains a lone surrogate, half of a character, which cannot be sent; decode the text again"
        )
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sort(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of several types
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))
