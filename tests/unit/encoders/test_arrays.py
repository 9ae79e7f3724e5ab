"""Features in any container are one array, by position, or rejected in one sentence."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse

import deepterms as dt
from deepterms.encoders.arrays import as_array
from deepterms.encoders.inputs import as_features, find_unusable_rows
from deepterms.errors import InvalidInput
from tests.containers import FEATURES

ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)  # exact in every type


@pytest.mark.parametrize("container", FEATURES)
def test_rows_are_read_by_position(container: str) -> None:
    found = as_features(FEATURES[container](ROWS), dimensions=3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize("container", FEATURES)
def test_encoders_and_pivots_take_the_same_containers(container: str) -> None:
    encoder = dt.DeepPermutation(3, top_k=2)
    assert encoder.encode(FEATURES[container](ROWS)).to_terms() == encoder.encode(ROWS).to_terms()
    # With cosine, pivots in float16 count as normalised.
    assert dt.Pivots(FEATURES[container](ROWS), metric="l2") == dt.Pivots(ROWS, metric="l2")
    assert dt.sample_pivots(FEATURES[container](ROWS), 2, method="rows") == dt.sample_pivots(ROWS, 2, method="rows")
    chosen, expected = (dt.MemoryIndex("auto", features=given) for given in (FEATURES[container](ROWS), ROWS))
    assert chosen.encoder == expected.encoder


def test_one_descriptor_may_be_a_series_or_a_list_of_tensors() -> None:
    for given in (pd.Series(ROWS[1], index=[2, 0, 1]), [torch.tensor(number) for number in ROWS[1]], iter(ROWS[1])):
        np.testing.assert_array_equal(as_features(given, dimensions=3), ROWS[1:2])


def test_a_memory_map_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert np.shares_memory(as_array(mapped), mapped)


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2, 3], [4, None, 6], [7, 8, 9]],
        [[1, 2, 3], None, [7, 8, 9]],
        np.array([[1, 2, 3], [4, None, 6], [7, 8, 9]], dtype=object),
        pd.DataFrame({"a": pd.array([1, None, 7], dtype="Int64"), "b": [2, 5, 8], "c": [3, 6, 9]}),
        pd.DataFrame({"a": [1, None, 7], "b": [2, 5, 8], "c": [3, 6, 9]}, dtype=object),
        pd.Series([[1, 2, 3], np.nan, [7, 8, 9]]),
        pl.DataFrame({"a": [1, None, 7], "b": [2, 5, 8], "c": [3, 6, 9]}),
        pa.array([[1.0, 2, 3], None, [7, 8, 9]]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_missing_number_makes_only_its_row_unusable(given: Any) -> None:
    found = as_features(given, dimensions=3)
    assert find_unusable_rows(found).keys() == {1}
    np.testing.assert_array_equal(found[[0, 2]], [[1, 2, 3], [7, 8, 9]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ROWS.astype(complex), "complex numbers"),
        (torch.tensor(ROWS).to(torch.complex64), "complex numbers"),
        (ROWS > 2, "booleans"),
        ([[True, False, True]], "booleans"),
        (pd.DataFrame({"a": [True], "b": [1.0], "c": [2.0]}), "a bool among them"),
        (ROWS.astype(str), "texts"),
        (ROWS.astype(str).tolist(), "texts"),
        ([[1.0, "2", 3.0]], "texts"),
        (ROWS.astype(str).astype(object), "a str among them"),
        (pd.DataFrame({"a": ["1"], "b": [1], "c": [2]}), "a str among them"),
        (ROWS.astype("S3"), "bytes"),
        (np.array(["2018"], dtype="M8[D]"), "dates"),
        (np.zeros(2, dtype="f4,f4"), "the type"),
        (np.ma.masked_greater(ROWS, 5), "masked array"),
        ([np.ma.masked_greater(row, 5) for row in ROWS], "masked array"),
        (sparse.csr_array(ROWS), r"sparse csr_array: pass features\.toarray"),
        (torch.tensor(ROWS).to_sparse(), r"sparse Tensor: pass features\.to_dense"),
        ([[1, 2], [3, 4, 5]], "rows of 2, 3 numbers"),
        ([np.ones(2), np.ones(3)], "rows of 2, 3 numbers"),
        (pd.Series([[1, 2], [3, 4, 5]]), "rows of 2, 3 numbers"),
        ([1.0, [2.0, 3.0]], "rows of 1, 2 numbers"),
        ([[10**400, 1, 2]], "too large"),
        ({"a": ROWS[0]}, "got dict: pass list"),
        ({1.0, 2.0, 3.0}, "has no order"),
        (pl.DataFrame(ROWS).lazy(), "LazyFrame"),
        (pd.DataFrame({"vector": list(ROWS)}), "a ndarray among them"),
        (None, "NoneType"),
        ("abc", "got str"),
        (5, "got int"),
        (object(), "got object"),
        ([[Decimal("1"), object()]], "object"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_rejected_in_one_sentence(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        as_features(given, dimensions=3)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput):
        dt.MemoryIndex(dt.DeepPermutation(3, top_k=2)).add(["a"], given)
