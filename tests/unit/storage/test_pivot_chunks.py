from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from deepterms.encoders.pivots.pivots import Metric, Pivots
from deepterms.errors import InvalidInput
from deepterms.storage.pivot_chunks import ChunkedPivots, count_chunks, count_rows_per_chunk, split_into_chunks


def pivots(count: int = 23, dimensions: int = 5, metric: Metric = "cosine") -> Pivots:
    return Pivots(np.random.default_rng(count).standard_normal((count, dimensions)), metric=metric)


@pytest.mark.parametrize(
    ("count", "rows", "chunks"), [(1, 1, 1), (23, 1, 23), (23, 10, 3), (20, 10, 2), (23, 23, 1), (23, 99, 1)]
)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_chunks_are_assembled_in_any_order(count: int, rows: int, chunks: int, metric: Metric) -> None:
    original = pivots(count, metric=metric)
    pieces = list(enumerate(split_into_chunks(original, rows=rows)))
    assert len(pieces) == count_chunks(count, rows) == chunks
    assert [first for _, (first, _) in pieces] == list(range(0, count, rows))
    again = ChunkedPivots(original.spec(), rows=rows)
    assert len(again) == chunks
    for number, (_, text) in reversed(pieces):
        again.fill(number, text)
    assert again.assemble() == original
    assert again.assemble().metric == metric


def test_a_chunk_is_little_endian_float16_row_by_row() -> None:
    ((first, text),) = split_into_chunks(Pivots([[1.0, -2.0], [0.5, 0.0]], metric="l2"), rows=10)
    assert (first, base64.b64decode(text)) == (0, bytes.fromhex("003c00c000380000"))


@pytest.mark.parametrize(("dimensions", "rows"), [(1280, 292), (2048, 183), (374_999, 1), (2_000_000, 1)])
def test_a_chunk_is_limited_to_a_megabyte(dimensions: int, rows: int) -> None:
    assert count_rows_per_chunk(dimensions) == rows
    assert rows == 1 or 4 * (2 * dimensions * rows) / 3 <= 1_000_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "chunk 1 is not base64"),
        ("!!!!", "chunk 1 is not base64"),
        ("ä", "chunk 1 is not base64"),
        ("AAA", "chunk 1 is not base64"),
        ("", "chunk 1 has 0 bytes; expected 100"),
        (base64.b64encode(bytes(99)).decode(), "chunk 1 has 99 bytes; expected 100"),
    ],
)
def test_a_damaged_chunk_is_named(text: Any, why: str) -> None:
    again = ChunkedPivots(pivots().spec(), rows=10)
    with pytest.raises(InvalidInput, match=why):
        again.fill(1, text)


def test_the_checksum_detects_a_changed_number() -> None:
    original = pivots()
    again = ChunkedPivots(original.spec(), rows=10)
    for number, (_, text) in enumerate(split_into_chunks(original, rows=10)):
        content = bytearray(base64.b64decode(text))
        content[7] ^= number == 1
        again.fill(number, base64.b64encode(content).decode())
    with pytest.raises(InvalidInput, match=rf"expected {original.checksum}"):
        again.assemble()


def test_the_metric_is_part_of_the_checksum() -> None:
    original = pivots()
    again = ChunkedPivots({**original.spec(), "metric": "l2"}, rows=99)
    for number, (_, text) in enumerate(split_into_chunks(original, rows=99)):
        again.fill(number, text)
    with pytest.raises(InvalidInput, match="checksum"):
        again.assemble()


@pytest.mark.parametrize(
    "described",
    [
        {},
        {**pivots().spec(), "count": "many"},
        {**pivots().spec(), "dimensions": 0},
        {**pivots().spec(), "metric": "near"},
        {**pivots().spec(), "count": None},
    ],
)
def test_an_invalid_description_is_rejected(described: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="does not describe pivots"):
        ChunkedPivots(described, rows=10)


def test_pivots_that_exceed_memory_are_rejected() -> None:
    for count in (2**62, 10**30):
        with pytest.raises(InvalidInput, match="do not fit into memory"):
            ChunkedPivots({**pivots().spec(), "count": count}, rows=10)
