"""A folder of descriptors into memory-mapped arrays with ids and metadata.

    store.json               {"format": "deepterms-features", "version": 1, "dimensions": D, "extractor": spec}
    features-00000.npy       float32 (n, D), one row per photo
    items-00000.parquet      n rows: id, path, size (bytes), mtime_ns
    features-00001.npy …
    failures.jsonl           {"id", "path", "reason"} of each photo that could not be read
    writer.lock              held by the process that is writing

A shard is complete once its items file exists, which `store_writer` renames last. Other files are leftovers of a writer
that was killed, and are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput
from deepterms.optional import require

__all__ = [
    "FORMAT",
    "VERSION",
    "FeatureBatch",
    "FeatureStore",
    "Shard",
    "count_parquet_rows",
    "map_array",
    "read_npy",
    "read_parquet_batches",
]

FORMAT = "deepterms-features"
VERSION = 1

# UnicodeDecodeError and JSONDecodeError are ValueErrors; deep nesting raises a RecursionError.
_UNREADABLE_JSON = (OSError, ValueError, RecursionError)


class FeatureBatch(NamedTuple):
    """Consecutive rows of one shard.

    Attributes:
        ids: the n ids.
        features: float32 (n, D), a read-only view of the memory-mapped file.
        items: n mappings with the metadata of each photo (path, size, mtime_ns); empty for a plain `.npy`.
    """

    ids: list[str]
    features: NDArray[np.float32]
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Shard:
    """One file of descriptors with the ids and metadata of its rows.

    Attributes:
        features_path: the `.npy` file.
        rows: n.
        items_path: the Parquet file with ids and metadata; None for a plain `.npy`.
        given_ids: the ids, if there is no such file.
    """

    features_path: Path
    rows: int
    items_path: Path | None = None
    given_ids: tuple[str, ...] = ()

    def features(self) -> NDArray[np.float32]:
        """Return float32 (n, D), memory-mapped (or copied, if the file has another dtype)."""
        features: NDArray[np.float32] = map_array(self.features_path).astype(np.float32, copy=False)
        return features

    def ids(self) -> list[str]:
        """Return the n ids."""
        if self.items_path is None:
            return list(self.given_ids)
        return [row["id"] for row in _read_parquet(self.items_path, count=self.rows, columns=["id"])]

    def items(self) -> list[dict[str, Any]]:
        """Return the metadata of the n rows, each with its id."""
        if self.items_path is None:
            return [{"id": item_id} for item_id in self.given_ids]
        return _read_parquet(self.items_path, count=self.rows)


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Descriptors on disk, in the order in which they were written.

    Attributes:
        folder: the store.
        dimensions: D.
        spec: `spec()` of the extractor that made them; None for a plain `.npy`.
        shards: the complete ones.
    """

    folder: Path
    dimensions: int
    spec: Mapping[str, Any] | None
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, folder: str | Path, *, extractor_spec: Mapping[str, Any] | None = None) -> FeatureStore:
        """Open a store for reading; a shard that is still being written is ignored.

        Args:
            folder: the store.
            extractor_spec: `spec()` of the extractor whose descriptors will be compared with these.

        Raises:
            FeatureStoreError: the store is missing or damaged, or was made by a different extractor.
        """
        folder = Path(folder)
        header = _read_header(folder)
        if extractor_spec is not None:
            _check_spec(folder, header["extractor"], extractor_spec)
        names = [path.stem.removeprefix("items-") for path in folder.glob("items-*.parquet")]
        numbers = sorted(int(name) for name in names if name.isdecimal())
        if numbers != list(range(len(numbers))):
            raise FeatureStoreError(f"{folder} lacks shards: found only {numbers}; copy the store again")
        shards = tuple(_open_shard(folder, number, header["dimensions"]) for number in numbers)
        return cls(folder, header["dimensions"], header["extractor"], shards)

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in row order."""
        return [item_id for shard in self.shards for item_id in shard.ids()]

    def batches(self, *, rows: int = 1024) -> Iterator[FeatureBatch]:
        """Iterate over all rows in order.

        Args:
            rows: maximum number of rows per batch; a batch never spans two shards, so its array is a view, not a copy.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for shard in self.shards:
            features, items = shard.features(), shard.items()
            for start in range(0, shard.rows, rows):
                part = [dict(item) for item in items[start : start + rows]]
                yield FeatureBatch([str(item.pop("id")) for item in part], features[start : start + rows], part)

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Look up the descriptors of some ids: float32 (len(ids), D), in the order of `ids`."""
        places = self._places
        unknown = [item_id for item_id in ids if item_id not in places]
        if unknown:
            raise InvalidInput(f"{len(unknown)} ids are not in {self.folder}, such as {unknown[0]!r}")
        gathered = np.empty((len(ids), self.dimensions), dtype=np.float32)
        for row, item_id in enumerate(ids):
            shard, place = places[item_id]
            gathered[row] = self._arrays[shard][place]
        return gathered

    def failures(self) -> list[dict[str, str]]:
        """Return id, path and reason of each photo that could not be read."""
        path = self.folder / "failures.jsonl"
        if not path.exists():
            return []
        try:
            failures = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        except _UNREADABLE_JSON as error:
            raise FeatureStoreError(f"{path} cannot be read: {error}") from error
        for failure in failures:
            if not isinstance(failure, dict) or not all(
                isinstance(failure.get(key), str) for key in ("id", "path", "reason")
            ):
                raise FeatureStoreError(f"{path} is damaged: a line contains {failure!r}; expected id, path and reason")
        return failures

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return {
            item_id: (number, row)
            for number, shard in enumerate(self.shards)
            for row, item_id in enumerate(shard.ids())
        }

    @cached_property
    def _arrays(self) -> list[NDArray[np.float32]]:
        return [shard.features() for shard in self.shards]


def read_npy(features: str | Path, ids: str | Path) -> FeatureStore:
    """Read descriptors that other programs made, as a store.

    Args:
        features: a `.npy` file of floats (N, D), read as float32.
        ids: a text file with one id per line, or a `.json` file with a list of ids.

    Returns:
        A store with one shard, without spec and metadata.

    Raises:
        FeatureStoreError: a file cannot be read, or the files do not match.
    """
    features, ids = Path(features), Path(ids)
    try:
        text = ids.read_text("utf-8")
        listed = json.loads(text) if ids.suffix.lower() == ".json" else text.removesuffix("\n").split("\n")
    except _UNREADABLE_JSON as error:
        raise FeatureStoreError(f"the ids in {ids} cannot be read: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item_id, str) and item_id for item_id in listed):
        raise FeatureStoreError(f'{ids} is not a list of ids; expected one per line, or JSON such as ["a", "b"]')
    array = map_array(features)
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != len(listed):
        raise FeatureStoreError(
            f"{features} contains {array.dtype} {array.shape}; expected floats ({len(listed)}, D) for the ids in {ids}"
        )
    if len(set(listed)) != len(listed):
        raise FeatureStoreError(f"{ids} contains duplicate ids; expected a different one per row")
    return FeatureStore(features.parent, array.shape[1], None, (Shard(features, len(listed), given_ids=tuple(listed)),))


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / "store.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise FeatureStoreError(f"{folder} is not a feature store: it has no store.json") from error
    except _UNREADABLE_JSON as error:
        raise FeatureStoreError(f"{folder / 'store.json'} cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or not {"dimensions", "extractor"} <= set(header):
        raise FeatureStoreError(f"{folder / 'store.json'} does not describe a feature store")
    if header.get("version") != VERSION:
        raise FeatureStoreError(
            f"{folder} has format version {header.get('version')}; this release of deepterms reads version {VERSION}"
        )
    dimensions, extractor = header["dimensions"], header["extractor"]
    if type(dimensions) is not int or dimensions < 1 or not isinstance(extractor, dict):
        raise FeatureStoreError(
            f"{folder / 'store.json'} is damaged: dimensions is {dimensions!r} and extractor is a "
            f"{type(extractor).__name__}; expected a positive integer and an object"
        )
    return header


def _check_spec(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # Through JSON, so that a tuple equals the list that it was stored as.
    wanted = json.loads(json.dumps(wanted))
    differences = [
        f"{key} is {stored.get(key)!r}, not {wanted.get(key)!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if differences:
        raise FeatureStoreError(
            f"{folder} was written by a different extractor, whose descriptors cannot be compared: "
            f"{'; '.join(differences)}. Use that extractor, or another folder"
        )


def _open_shard(folder: Path, number: int, dimensions: int) -> Shard:
    features_path, items_path = folder / f"features-{number:05d}.npy", folder / f"items-{number:05d}.parquet"
    features, rows = map_array(features_path), count_parquet_rows(items_path)
    if features.shape != (rows, dimensions) or features.dtype != np.float32:
        raise FeatureStoreError(
            f"{features_path} contains {features.dtype} {features.shape}; expected float32 ({rows}, {dimensions})"
        )
    return Shard(features_path, rows, items_path)


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
    pq = _import_parquet()
    try:
        return int(pq.read_metadata(path).num_rows)
    except Exception as error:  # on damaged files Arrow raises anything
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def read_parquet_batches(path: Path, *, rows: int) -> Iterator[list[dict[str, Any]]]:
    """Read a Parquet file in batches of at most `rows` rows."""
    pq = _import_parquet()
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=rows)
        while (batch := next(batches, None)) is not None:
            found: list[dict[str, Any]] = batch.to_pylist()
            yield found
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def _read_parquet(path: Path, *, count: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    pq = _import_parquet()
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error
    if len(rows) != count or not all(isinstance(row.get("id"), str) for row in rows):
        raise FeatureStoreError(f"{path} is damaged: expected {count} rows, each with a string as id")
    return rows


def _import_parquet() -> Any:
    with require("pyarrow", "features"):
        import pyarrow.parquet
    return pyarrow.parquet
