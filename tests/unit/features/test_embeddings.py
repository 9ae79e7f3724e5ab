"""Folders written by clip-retrieval, and stores of existing descriptors."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError
from deepterms.features import EmbeddingFolder, FeatureStore, write_store


def write_part(folder: Path, number: int, rows: NDArray[Any], **columns: Any) -> None:
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(exist_ok=True, parents=True)
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
    pq.write_table(pa.table(columns), folder / "metadata" / f"metadata_{number}.parquet")


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((7, 4))
    write_part(tmp_path, 2, rows[:4].astype(np.float16), image_path=list("abcd"), caption=["ü", None, "", "x"])
    write_part(tmp_path, 10, rows[4:].astype(np.float32), key=["k4", "k5", "k6"], similarity=[0.5, np.nan, None])
    assert EmbeddingFolder.found_in(tmp_path)
    found = EmbeddingFolder.open(tmp_path)
    assert (len(found), found.dimensions, found.spec) == (7, 4, None)
    batches = list(found.batches(rows=3))
    assert [batch.ids for batch in batches] == [["a", "b", "c"], ["d"], ["k4", "k5", "k6"]]
    assert {batch.features.dtype for batch in batches} == {np.dtype(np.float32)}
    given = np.concatenate([rows[:4].astype(np.float16), rows[4:]])
    np.testing.assert_array_equal(np.concatenate([batch.features for batch in batches]), given.astype(np.float32))
    assert batches[0].items == [{"path": "a", "caption": "ü"}, {"path": "b"}, {"path": "c", "caption": ""}]
    assert batches[2].items == [{"key": "k4", "similarity": 0.5}, {"key": "k5"}, {"key": "k6"}]


def test_rows_without_a_name_have_their_position_as_id(tmp_path: Path) -> None:
    write_part(tmp_path, 3, np.eye(2, dtype=np.float16), caption=["x", "y"])
    (batch,) = EmbeddingFolder.open(tmp_path).batches()
    assert batch.ids == ["3/0", "3/1"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (np.eye(3, dtype=np.float16), r"contains float16 \(3, 3\); expected floats \(2, 3\)"),
        (np.eye(2, dtype=np.int8), "contains int8"),
        (np.ones(2), r"contains float64 \(2,\)"),
    ],
)
def test_files_that_do_not_match_are_rejected(tmp_path: Path, rows: NDArray[Any], sentence: str) -> None:
    write_part(tmp_path, 0, rows, caption=["x", "y"])
    with pytest.raises(FeatureStoreError, match=sentence):
        EmbeddingFolder.open(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match=r"contains no img_emb/img_emb_0\.npy"):
        EmbeddingFolder.open(tmp_path)
    write_part(tmp_path, 0, np.eye(2), caption=["x", "y"])
    metadata = tmp_path / "metadata" / "metadata_0.parquet"
    content = metadata.read_bytes()
    metadata.write_bytes(b"PAR1" + content[4:-30])
    with pytest.raises(FeatureStoreError, match=r"metadata_0\.parquet is damaged"):
        EmbeddingFolder.open(tmp_path)
    metadata.unlink()
    with pytest.raises(FeatureStoreError, match=r"lacks the \.parquet file of part 0"):
        EmbeddingFolder.open(tmp_path)


@pytest.mark.parametrize("column", ["key", "image_path"])
def test_duplicate_ids_are_rejected_by_name(tmp_path: Path, column: str) -> None:
    for part in range(2):
        write_part(tmp_path, part, np.eye(3, dtype=np.float16), **{column: ["IMG_0", "IMG_1", f"IMG_{2 + part}"]})
    message = (
        r"contains duplicate ids: 'IMG_0' \(row 0 of metadata_0\.parquet, row 0 of metadata_1\.parquet\); 'IMG_1' .*"
        "expected a different one per row"
    )
    with pytest.raises(FeatureStoreError, match=message):
        EmbeddingFolder.open(tmp_path)


def test_many_duplicate_ids_are_counted(tmp_path: Path) -> None:
    write_part(tmp_path, 0, np.eye(18, dtype=np.float16), key=[f"k{row // 2}" for row in range(18)])
    with pytest.raises(FeatureStoreError, match=r"'k4' \(row 8 .*, and 4 more\. An id is"):
        EmbeddingFolder.open(tmp_path)


def test_numeric_keys_are_ids_including_zero(tmp_path: Path) -> None:
    write_part(tmp_path, 0, np.eye(3, dtype=np.float16), key=[0, 1, None], image_path=["a", "b", "c"])
    write_part(tmp_path, 1, np.eye(3, dtype=np.float16), key=["", "0000", None])
    write_part(tmp_path, 2, np.eye(3, dtype=np.float16), key=[2.5, np.nan, 3.0])
    assert [batch.ids for batch in EmbeddingFolder.open(tmp_path).batches()] == [
        *(["0", "1", "c"], ["1/0", "0000", "1/2"], ["2.5", "2/1", "3.0"])
    ]


def test_metadata_keeps_the_kind_of_each_value(tmp_path: Path) -> None:
    noon = datetime(2024, 5, 17, 12, 30, 1, 250_000)
    columns = {
        "tags": [["sea", "sun"]],
        "empty": [[]],
        "boxes": [[[0.5, math.nan], [1.0, math.inf]]],
        "exif": [{"model": "X", "iso": 100, "lens": None, "crop": {"top": 1}}],
        "faces": [[{"name": "Ada"}, {"name": None}]],
        "price": [Decimal("1.50")],
        "count": [Decimal("12345678901234567890")],
        "taken": [noon],
        "day": [date(2024, 5, 17)],
        "hour": [time(12, 30)],
        "length": [timedelta(seconds=90)],
        "nsfw": [False],
        "width": [640],
    }
    write_part(
        tmp_path,
        0,
        np.eye(1, dtype=np.float16),
        **columns,
        utc=pa.array([noon.replace(tzinfo=timezone.utc)], pa.timestamp("ms", "UTC")),
        fine=pa.array([1_715_949_001_250_000_001], pa.timestamp("ns")),
        map=pa.array([[("en", "sea"), ("de", "Meer")]], pa.map_(pa.string(), pa.string())),
        half=pa.array([np.float16(0.5)], pa.float16()),
        named=pa.array(["red"]).dictionary_encode(),
        absent=pa.nulls(1),
    )
    (batch,) = EmbeddingFolder.open(tmp_path).batches()
    (item,) = batch.items
    assert item == {
        "tags": ["sea", "sun"],
        "empty": [],
        "boxes": [[0.5, None], [1.0, None]],
        "exif": {"model": "X", "iso": 100, "crop": {"top": 1}},
        "faces": [{"name": "Ada"}, {}],
        "price": 1.5,
        "count": 12345678901234567890,
        "taken": "2024-05-17T12:30:01.250000",
        "day": "2024-05-17",
        "hour": "12:30:00",
        "length": 90.0,
        "nsfw": False,
        "width": 640,
        "utc": "2024-05-17T12:30:01.250000+00:00",
        "fine": "2024-05-17T12:30:01.250000",
        "map": {"en": "sea", "de": "Meer"},
        "half": 0.5,
        "named": "red",
    }
    json.dumps(item, allow_nan=False)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        (pa.array([b"x"]), "thumb"),
        (pa.array([[b"x"]]), "thumb"),
        (pa.array([b"xy"], pa.binary(2)), "thumb"),
        (pa.array([{"size": 1, "raw": b"x"}]), "thumb.raw"),
        (pa.array([[("raw", b"x")]], pa.map_(pa.string(), pa.binary())), "thumb.value"),
    ],
)
def test_bytes_are_rejected_by_field_name(tmp_path: Path, column: Any, field: str) -> None:
    write_part(tmp_path, 0, np.eye(1, dtype=np.float16), key=["a"], thumb=column)
    with pytest.raises(FeatureStoreError, match=rf"the field '{field}' in .*metadata_0\.parquet contains bytes"):
        EmbeddingFolder.open(tmp_path)


def test_a_column_named_path_is_kept(tmp_path: Path) -> None:
    write_part(tmp_path, 0, np.eye(1, dtype=np.float16), image_path=["a"], path=["b"])
    (batch,) = EmbeddingFolder.open(tmp_path).batches()
    assert batch.items == [{"image_path": "a", "path": "b"}]


def test_a_written_store_appears_once_it_is_complete(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    batches = [([f"d{n}" for n in range(start, start + 1)], rows[start : start + 1], ["p.jpg"]) for start in range(7)]
    target = tmp_path / "deep" / "store"

    def broken() -> Any:
        yield batches[0]
        assert not target.exists()
        raise OSError("no answer")

    with pytest.raises(OSError, match="no answer"):
        write_store(broken(), target, dimensions=4, spec={}, shard_size=1)
    assert not target.exists()
    store = write_store(batches, target, dimensions=4, spec={"backbone": "x"}, shard_size=3)
    assert [shard.rows for shard in store.shards] == [3, 3, 1]
    again = FeatureStore.open(target, extractor_spec={"backbone": "x"})
    np.testing.assert_array_equal(again.features_of([f"d{n}" for n in range(7)]), rows)
    assert [entry.name for entry in target.parent.iterdir()] == ["store"]
    with pytest.raises(FeatureStoreError, match="exists; expected the path of a new folder"):
        write_store(batches, target, dimensions=4, spec={})
