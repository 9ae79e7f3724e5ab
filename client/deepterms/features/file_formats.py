"""Files of descriptors and metadata into arrays and rows: `.npy` and Parquet, whatever they contain.

A damaged file raises a FeatureStoreError with its path; what numpy and Arrow raise is not documented and varies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError
from deepterms.optional import require

__all__ = [
    "UNREADABLE_JSON",
    "count_parquet_rows",
    "import_parquet",
    "map_array",
    "read_parquet",
    "read_parquet_batches",
    "read_parquet_footer",
    "read_parquet_schema",
]

# UnicodeDecodeError and JSONDecodeError are ValueErrors; deep nesting raises a RecursionError.
UNREADABLE_JSON = (OSError, ValueError, RecursionError)


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map the array of a `.npy` file.

    Raises:
        FeatureStoreError: the file is missing, damaged or something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # numpy evaluates the header as Python and raises anything: SyntaxError, TypeError, OverflowError…
    except Exception as error:
        raise FeatureStoreError(f"{path} is not a readable .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise FeatureStoreError(f"{path} is an archive of arrays; expected one array, as written by numpy.save")
    return array


def count_parquet_rows(path: Path) -> int:
    """Read the number of rows from the footer of a Parquet file."""
    return read_parquet_footer(path)[0]


def read_parquet_footer(path: Path) -> tuple[int, dict[bytes, bytes]]:
    """Read the number of rows and the metadata from the footer of a Parquet file."""
    pq = import_parquet()
    try:
        footer = pq.read_metadata(path)
        return int(footer.num_rows), dict(footer.metadata or {})
    except Exception as error:  # on damaged files Arrow raises anything
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def read_parquet_batches(path: Path, *, rows: int, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """Read a Parquet file in batches of at most `rows` rows, with all columns or some."""
    pq = import_parquet()
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=rows, columns=columns)
        while (batch := next(batches, None)) is not None:
            found: list[dict[str, Any]] = _without_nanoseconds(batch).to_pylist()
            yield found
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def read_parquet_schema(path: Path) -> Any:
    """Read the columns of a Parquet file, as a `pyarrow.Schema`."""
    pq = import_parquet()
    try:
        return pq.read_schema(path)
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def _without_nanoseconds(batch: Any) -> Any:
    """Cut timestamps to microseconds, the resolution of Python's datetime: without pandas, Arrow rejects finer ones."""
    with require("pyarrow", "features"):
        import pyarrow as pa
    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def read_parquet(path: Path, *, count: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Read the items of a shard: `count` rows, each with a string as id."""
    pq = import_parquet()
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error
    if len(rows) != count or not all(isinstance(row.get("id"), str) for row in rows):
        raise FeatureStoreError(f"{path} is damaged: expected {count} rows, each with a string as id")
    return rows


def import_parquet() -> Any:
    """Return `pyarrow.parquet`, or name the extra that installs it."""
    with require("pyarrow", "features"):
        import pyarrow.parquet
    return pyarrow.parquet
