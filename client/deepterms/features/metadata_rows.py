"""Rows of a Parquet file into ids and metadata that JSON can represent, without changing what a value is.

Lists stay lists, structs and maps become objects, decimals numbers, timestamps ISO 8601 texts, and durations seconds.
Bytes are rejected. NaN, infinity and missing values are left out, or null inside a list.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from deepterms.errors import FeatureStoreError
from deepterms.features.file_formats import read_parquet_schema
from deepterms.optional import require

__all__ = ["ID_COLUMNS", "check_columns", "choose_id", "to_item"]

ID_COLUMNS = ("key", "image_path")


def check_columns(path: Path) -> list[str]:
    """Check that JSON can represent the columns of a file.

    Returns:
        Those columns that ids are made of.

    Raises:
        FeatureStoreError: a column contains bytes; the message names the field.
    """
    schema = read_parquet_schema(path)
    for field in schema:
        if name := _find_bytes(field.name, field.type):
            raise FeatureStoreError(
                f"the field {name!r} in {path} contains bytes, which JSON cannot represent; remove it, or "
                "convert it to text"
            )
    return [name for name in ID_COLUMNS if name in schema.names]


def choose_id(row: Mapping[str, Any], place: str) -> str:
    """Return the id of a row: its key, else its image_path, else its place; numbers, including 0, become texts."""
    for name in ID_COLUMNS:
        value = row.get(name)
        if value is not None and value != "" and value == value:  # NaN, as pandas marks a missing number
            return str(value)
    return place


def to_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row to metadata, with `image_path` renamed to `path` unless there is a column of that name."""
    names = {} if "path" in row else {"image_path": "path"}
    return {names.get(name, name): value for name, value in _convert_fields(row.items()).items()}


def _convert_fields(fields: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    converted = {str(name): _convert(value) for name, value in fields}
    return {name: value for name, value in converted.items() if value is not None}


def _convert(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return _convert_fields(value.items())
    if isinstance(value, list):
        # Arrow gives a map as a list of pairs.
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return _convert_fields(value)
        return [_convert(part) for part in value]
    raise FeatureStoreError(
        f"the metadata contains a {type(value).__name__}, {value!r:.80}; expected what JSON can represent"
    )


def _find_bytes(name: str, type: Any) -> str | None:
    """Return the name of the first field of bytes in a column, such as `exif.thumbnail`."""
    with require("pyarrow", "features"):
        import pyarrow as pa
    kinds = pa.types
    if kinds.is_dictionary(type):
        return _find_bytes(name, type.value_type)
    if kinds.is_binary(type) or kinds.is_large_binary(type) or kinds.is_fixed_size_binary(type):
        return name
    if kinds.is_map(type):
        parts = [("key", type.key_type), ("value", type.item_type)]
    elif kinds.is_struct(type):
        parts = [(field.name, field.type) for field in type]
    elif kinds.is_list(type) or kinds.is_large_list(type) or kinds.is_fixed_size_list(type):
        return _find_bytes(name, type.value_type)
    else:
        return None
    return next((found for part, kind in parts if (found := _find_bytes(f"{name}.{part}", kind))), None)
