"""Containers: N values as lists, arrays, series, tables and iterators of several libraries, with shuffled labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

__all__ = ["FEATURES", "IDS", "METADATA"]


def shuffled_labels(count: int) -> list[int]:
    """Return labels 0 … N − 1 in another order: reading by label instead of by position would mix up all values."""
    return [int(label) for label in np.random.default_rng(count).permutation(count)]


IDS: Mapping[str, Callable[[Sequence[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda ids: (id for id in ids),
    "iterator": lambda ids: iter(list(ids)),
    "dict keys": lambda ids: dict.fromkeys(ids).keys(),
    "dict values": lambda ids: dict(enumerate(ids)).values(),
    "deque": deque,
    "numpy texts": lambda ids: np.array(ids),
    "numpy objects": lambda ids: np.array(ids, dtype=object),
    "list of np.str_": lambda ids: list(np.array(ids)),
    "pandas series": lambda ids: pd.Series(list(ids), index=shuffled_labels(len(ids))),
    "pandas series labelled by text": lambda ids: pd.Series(list(ids), index=list(reversed(ids))),
    "pandas categories": lambda ids: pd.Series(list(ids), index=shuffled_labels(len(ids)), dtype="category"),
    "pandas index": lambda ids: pd.Index(list(ids)),
    "polars series": lambda ids: pl.Series(list(ids)),
    "arrow array": lambda ids: pa.array(list(ids)),
    "arrow chunks": lambda ids: pa.chunked_array([list(ids[:1]), list(ids[1:])], type=pa.string()),
    "arrow dictionary": lambda ids: pa.array(list(ids)).dictionary_encode(),
}

FEATURES: Mapping[str, Callable[[NDArray[np.float32]], Any]] = {
    "float32": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "int8": lambda rows: rows.astype(np.int8),
    "big endian": lambda rows: rows.astype(">f4"),
    "columns first": np.asfortranarray,
    "bfloat16": lambda rows: rows.astype(ml_dtypes.bfloat16),
    "objects": lambda rows: rows.astype(object),
    "nested lists": lambda rows: rows.tolist(),
    "list of arrays": list,
    "generator of arrays": lambda rows: (row for row in rows),
    "generator of lists": lambda rows: (row.tolist() for row in rows),
    "dict values": lambda rows: dict(enumerate(rows)).values(),
    "list of series": lambda rows: [pd.Series(row, index=shuffled_labels(len(row))) for row in rows],
    "list of tensors": lambda rows: [torch.tensor(row, requires_grad=True) for row in rows],
    "pandas table": lambda rows: pd.DataFrame(
        rows, index=shuffled_labels(len(rows)), columns=shuffled_labels(rows.shape[1])
    ),
    "pandas nullable table": lambda rows: pd.DataFrame(rows, index=shuffled_labels(len(rows))).astype("Float32"),
    "pandas series of arrays": lambda rows: pd.Series(list(rows), index=shuffled_labels(len(rows))),
    "polars table": lambda rows: pl.DataFrame(rows),
    "polars series of lists": lambda rows: pl.Series(rows.tolist()),
    "arrow table": lambda rows: pa.table({f"c{9 - column}": rows[:, column] for column in range(rows.shape[1])}),
    "arrow array of lists": lambda rows: pa.array(rows.tolist()),
    "tensor": torch.tensor,
    "tensor with gradients": lambda rows: torch.tensor(rows, requires_grad=True),
    "tensor of bfloat16": lambda rows: torch.tensor(rows).bfloat16(),
    "tensor of float16": lambda rows: torch.tensor(rows).half(),
    "tensor of int8": lambda rows: torch.tensor(rows).to(torch.int8),
}

METADATA: Mapping[str, Callable[[Sequence[dict[str, Any]]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "dict values": lambda rows: dict(enumerate(rows)).values(),
    "numpy objects": lambda rows: np.array([*rows, None], dtype=object)[:-1],
    "pandas table": lambda rows: pd.DataFrame(list(rows), index=shuffled_labels(len(rows))),
    "pandas series of dicts": lambda rows: pd.Series(list(rows), index=shuffled_labels(len(rows))),
    "polars table": lambda rows: pl.DataFrame(list(rows)),
    "polars series of structs": lambda rows: pl.Series(list(rows)),
    "arrow table": lambda rows: pa.Table.from_pylist(list(rows)),
    "arrow array of structs": lambda rows: pa.array(list(rows)),
}
