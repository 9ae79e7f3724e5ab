"""A folder of descriptors that is read without loading it.

    store.json               {"format": "deepterms-features", "version": 1, "dimensions": D, "extractor": spec}
    features-00000.npy       float32 (n, D), one row a photograph
    items-00000.parquet      n rows: id, path, size (bytes), mtime_ns
    features-00001.npy …
    failures.jsonl           {"id", "path", "reason"} of each photograph that could not be read
    writer.lock              held by the process that is writing

A shard counts once its items file is there: `store_writer` renames that one last. Other files are leftovers of a
writer that was killed, and are ignored.
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

from deepterms.errors import FeatureStoreError, InvalidInput, MissingExtra

__all__ = [
    "FORMAT",
    "VERSION",
    "FeatureBatch",
    "FeatureStore",
    "Shard",
    "memory_mapped",
    "parquet_batches",
    "parquet_rows",
    "read_npy",
]

FORMAT = "deepterms-features"
VERSION = 1

# UnicodeDecodeError and JSONDecodeError are ValueErrors; nesting without end is a RecursionError.
_UNREADABLE_JSON = (OSError, ValueError, RecursionError)


class FeatureBatch(NamedTuple):
    """Neighbouring rows of one shard.

    Attributes:
        ids: n of them.
        features: float32 (n, D), a read-only view of the memory-mapped file.
        items: n mappings with what else is known of each photograph: path, size, mtime_ns; empty for a plain `.npy`.
    """

    ids: list[str]
    features: NDArray[np.float32]
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Shard:
    """One file of descriptors and what its rows are.

    Attributes:
        features_path: the `.npy` file.
        rows: n.
        items_path: the Parquet file with the ids and items; None for a plain `.npy`.
        given_ids: the ids where there is no such file.
    """

    features_path: Path
    rows: int
    items_path: Path | None = None
    given_ids: tuple[str, ...] = ()

    def features(self) -> NDArray[np.float32]:
        """float32 (n, D), memory-mapped (copied where the file holds another type)."""
        features: NDArray[np.float32] = memory_mapped(self.features_path).astype(np.float32, copy=False)
        return features

    def ids(self) -> list[str]:
        """The n ids."""
        if self.items_path is None:
            return list(self.given_ids)
        return [row["id"] for row in _read_parquet(self.items_path, count=self.rows, columns=["id"])]

    def items(self) -> list[dict[str, Any]]:
        """The n items, with their ids."""
        if self.items_path is None:
            return [{"id": item_id} for item_id in self.given_ids]
        return _read_parquet(self.items_path, count=self.rows)


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Descriptors on the disk, in the order in which they were written.

    Attributes:
        folder: where they are.
        dimensions: D.
        spec: of the extractor that made them; None for a plain `.npy`.
        shards: the finished ones.
    """

    folder: Path
    dimensions: int
    spec: Mapping[str, Any] | None
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, folder: str | Path, *, extractor_spec: Mapping[str, Any] | None = None) -> FeatureStore:
        """Opens a store for reading; a shard that is being written is not seen.

        Args:
            folder: the store.
            extractor_spec: `spec()` of the extractor whose descriptors will be compared with these.

        Raises:
            FeatureStoreError: no store, a damaged one, or one of another extractor.
        """
        folder = Path(folder)
        header = _read_header(folder)
        if extractor_spec is not None:
            _check_spec(folder, header["extractor"], extractor_spec)
        names = [path.stem.removeprefix("items-") for path in folder.glob("items-*.parquet")]
        numbers = sorted(int(name) for name in names if name.isdecimal())
        if numbers != list(range(len(numbers))):
            raise FeatureStoreError(f"{folder} lacks shards: only {numbers} are there; copy the store again")
        shards = tuple(_open_shard(folder, number, header["dimensions"]) for number in numbers)
        return cls(folder, header["dimensions"], header["extractor"], shards)

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in the order of the rows."""
        return [item_id for shard in self.shards for item_id in shard.ids()]

    def batches(self, *, rows: int = 1024) -> Iterator[FeatureBatch]:
        """Iterates over all rows in order.

        Args:
            rows: in a batch at most; a batch never spans two shards, so that its array is a view and not a copy.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for shard in self.shards:
            features, items = shard.features(), shard.items()
            for start in range(0, shard.rows, rows):
                part = [dict(item) for item in items[start : start + rows]]
                yield FeatureBatch([str(item.pop("id")) for item in part], features[start : start + rows], part)

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Gathers the descriptors of some ids: float32 (len(ids), D), in the order asked for."""
        places = self._places
        unknown = [item_id for item_id in ids if item_id not in places]
        if unknown:
            raise InvalidInput(f"{len(unknown)} ids are not in {self.folder}, the first is {unknown[0]!r}")
        gathered = np.empty((len(ids), self.dimensions), dtype=np.float32)
        for row, item_id in enumerate(ids):
            shard, place = places[item_id]
            gathered[row] = self._arrays[shard][place]
        return gathered

    def failures(self) -> list[dict[str, str]]:
        """id, path and reason of each photograph that could not be read."""
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
                raise FeatureStoreError(
                    f"{path} is damaged: expected id, path and reason in each line; got {failure!r}"
                )
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
    """Reads descriptors made by other programs like a store.

    Args:
        features: a `.npy` file of floats (N, D); read as float32.
        ids: a text file with one id a line, or a `.json` file with a list of them.

    Returns:
        A store of one shard, without a spec and without items.
    """
    features, ids = Path(features), Path(ids)
    try:
        text = ids.read_text("utf-8")
        listed = json.loads(text) if ids.suffix.lower() == ".json" else text.removesuffix("\n").split("\n")
    except _UNREADABLE_JSON as error:
        raise FeatureStoreError(f"the ids in {ids} cannot be read: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(item_id, str) and item_id for item_id in listed):
        raise FeatureStoreError(f'{ids} is no list of ids; expected one a line, or JSON such as ["a", "b"]')
    array = memory_mapped(features)
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != len(listed):
        raise FeatureStoreError(
            f"{features} holds {array.dtype} {array.shape}; expected floats ({len(listed)}, D) for the ids in {ids}"
        )
    if len(set(listed)) != len(listed):
        raise FeatureStoreError(f"{ids} names some ids twice; every row needs its own")
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
            f"{folder} has version {header.get('version')} of the format; this release of deepterms reads {VERSION}"
        )
    dimensions, extractor = header["dimensions"], header["extractor"]
    if type(dimensions) is not int or dimensions < 1 or not isinstance(extractor, dict):
        raise FeatureStoreError(
            f"{folder / 'store.json'} is damaged: dimensions is {dimensions!r}, "
            f"extractor is a {type(extractor).__name__}"
        )
    return header


def _check_spec(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # Through JSON, so that a tuple equals the list it was stored as.
    wanted = json.loads(json.dumps(wanted))
    differences = [
        f"{key} {stored.get(key)!r} against {wanted.get(key)!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if stored.get(key) != wanted.get(key)
    ]
    if differences:
        raise FeatureStoreError(
            f"{folder} was written by another extractor, whose descriptors cannot be compared: "
            f"{'; '.join(differences)}. Use that extractor, or another folder"
        )


def _open_shard(folder: Path, number: int, dimensions: int) -> Shard:
    features_path, items_path = folder / f"features-{number:05d}.npy", folder / f"items-{number:05d}.parquet"
    features, rows = memory_mapped(features_path), parquet_rows(items_path)
    if features.shape != (rows, dimensions) or features.dtype != np.float32:
        raise FeatureStoreError(
            f"{features_path} holds {features.dtype} {features.shape}; its items need float32 ({rows}, {dimensions})"
        )
    return Shard(features_path, rows, items_path)


def memory_mapped(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, read as it is used."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # numpy evaluates the header as Python and raises whatever that leads to: SyntaxError, TypeError, OverflowError…
    except Exception as error:
        raise FeatureStoreError(f"{path} is not a readable .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise FeatureStoreError(f"{path} is an archive of arrays; expected one array, written by numpy.save")
    return array


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has."""
    pq = _parquet()
    try:
        return int(pq.read_metadata(path).num_rows)
    except Exception as error:  # Arrow raises as freely as its reader is led astray
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def parquet_batches(path: Path, *, rows: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of a Parquet file, so many at a time."""
    pq = _parquet()
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=rows)
        while (batch := next(batches, None)) is not None:
            found: list[dict[str, Any]] = batch.to_pylist()
            yield found
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error


def _read_parquet(path: Path, *, count: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    pq = _parquet()
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    except Exception as error:
        raise FeatureStoreError(f"{path} is damaged: {error}") from error
    if len(rows) != count or not all(isinstance(row.get("id"), str) for row in rows):
        raise FeatureStoreError(f"{path} is damaged: expected {count} rows, each with a text as id")
    return rows


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "features") from error
    return pyarrow.parquet
