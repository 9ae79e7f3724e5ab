"""A folder of descriptors into memory-mapped arrays with ids and metadata.

    store.json               {"format": "deepterms-features", "version", "dimensions": D, "extractor": spec…}
    features-00000.npy       float32 (n, D), one row per photo
    items-00000.parquet      n rows: id, path, size (bytes), mtime_ns, and, since version 2, hash
    features-00001.npy …
    failures.jsonl           {"id", "path", "reason"} of each photo that could not be read
    writer.lock              held by the process that is writing

A shard is complete once its items file exists, which `store_writer` renames last. Other files are leftovers of a writer
that was killed, and are ignored.

The items file of a shard also contains the checksums of both files. They are compared when the shard is first read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput
from deepterms.features.checksums import Checksums, describe_remedy
from deepterms.features.file_formats import UNREADABLE_JSON, map_array, read_parquet, read_parquet_footer
from deepterms.features.store_header import StoreHeader, read_header

__all__ = ["FeatureBatch", "FeatureStore", "Shard"]

logger = logging.getLogger("deepterms.features")


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
        stored: number of rows of both files, including removed ones.
        items_path: the Parquet file with ids and metadata; None for a plain `.npy`.
        given_ids: the ids, if there is no such file.
        number: of the shard, from 0.
        header: of the store; None for a plain `.npy`.
        checksums: of both files; None for a plain `.npy`, and for shards of earlier releases.
    """

    features_path: Path
    stored: int
    items_path: Path | None = None
    given_ids: tuple[str, ...] = ()
    number: int = 0
    header: StoreHeader | None = None
    checksums: Checksums | None = None

    @property
    def rows(self) -> int:
        """n, the number of rows without removed ones."""
        return self.stored - len(self.removed)

    @property
    def removed(self) -> frozenset[int]:
        """Rows of the file that no longer count."""
        return frozenset() if self.header is None else self.header.removed.get(self.number, frozenset())

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """The place of each of the n rows in the file: (n,)."""
        return np.setdiff1d(np.arange(self.stored), sorted(self.removed))

    def array(self) -> NDArray[np.float32]:
        """Return all rows of the file, float32 (stored, D), memory-mapped (or copied, if it has another dtype).

        Raises:
            FeatureStoreError: the file is damaged. Other shards can still be read.
        """
        self._check()
        features: NDArray[np.float32] = map_array(self.features_path).astype(np.float32, copy=False)
        return features

    def _check(self) -> None:
        """Compare the checksum of the array file, once."""
        if self.checksums is not None and "_is_checked" not in self.__dict__:
            self.checksums.check_array(self.features_path)
            self.__dict__["_is_checked"] = True

    def _read_items(self, columns: list[str] | None = None) -> list[dict[str, Any]]:
        if self.items_path is None:
            return [{"id": item_id} for item_id in self.given_ids]
        try:
            items = read_parquet(self.items_path, count=self.stored, columns=columns)
        except FeatureStoreError as error:
            raise FeatureStoreError(f"{error}. {describe_remedy(self.items_path)}") from error
        if self.checksums is not None:
            self.checksums.check_columns(self.items_path, items)
        return items

    def ids(self) -> list[str]:
        """Return the n ids."""
        ids = self.all_ids()
        return [ids[place] for place in self.places]

    def all_ids(self) -> list[str]:
        """Return the ids of all rows of the file, including removed ones."""
        return [row["id"] for row in self._read_items(["id"])]

    def removed_ids(self) -> list[str]:
        """Return the ids of removed rows; another row may have the same id by now."""
        if not self.removed:
            return []
        ids = self.all_ids()
        return [ids[row] for row in sorted(self.removed)]

    def items(self) -> list[dict[str, Any]]:
        """Return the metadata of the n rows, each with its id and current path."""
        items = self.all_items()
        for item in items:
            item.pop("hash", None)
        return [items[place] for place in self.places]

    def all_items(self) -> list[dict[str, Any]]:
        """Return the metadata of all rows of the file, including removed ones, with their hashes."""
        items = self._read_items()
        if self.header is not None and self.header.renames:
            for item in items:
                item["path"] = self.header.current_path(item["path"], self.number)
        return items


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Descriptors on disk, in the order in which they were written.

    Attributes:
        folder: the store.
        dimensions: D.
        spec: `spec()` of the extractor that made them; None for a plain `.npy`.
        shards: the complete ones.
        header: the content of `store.json`; None for a plain `.npy`.
        damaged: number of a shard → why it was left out, for a store that was opened with ``skip_damaged``.
    """

    folder: Path
    dimensions: int
    spec: Mapping[str, Any] | None
    shards: tuple[Shard, ...]
    header: StoreHeader | None = None
    damaged: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, folder: str | Path, *, extractor_spec: Mapping[str, Any] | None = None, skip_damaged: bool = False
    ) -> FeatureStore:
        """Open a store for reading; a shard that is still being written is ignored.

        Missing, shortened and exchanged files are found at once. The content of a shard is compared with its checksums
        when it is first read; a shard that was written by an earlier release has none.

        Args:
            folder: the store.
            extractor_spec: `spec()` of the extractor whose descriptors will be compared with these.
            skip_damaged: read every shard now, and leave out those that are damaged or missing; see `damaged`.

        Raises:
            FeatureStoreError: the store is missing or damaged, or was made by a different extractor.
        """
        folder = Path(folder)
        header = read_header(folder)
        if extractor_spec is not None:
            _check_spec(folder, header.extractor, extractor_spec)
        names = [path.stem.removeprefix("items-") for path in folder.glob("items-*.parquet")]
        numbers = sorted(int(name) for name in names if name.isdecimal())
        if numbers != list(range(len(numbers))) and not skip_damaged:
            raise FeatureStoreError(f"{folder} lacks shards: found only {numbers}; copy the store again")
        shards: list[Shard] = []
        damaged: dict[int, str] = {}
        for number in range(max(numbers, default=-1) + 1):
            try:
                shard = _open_shard(folder, number, header)
                if skip_damaged:
                    shard.array()
                    shard.all_items()
                shards.append(shard)
            except FeatureStoreError as error:
                if not skip_damaged:
                    raise
                damaged[number] = str(error)
        unchecked = sum(shard.checksums is None for shard in shards)
        if unchecked:
            logger.warning(
                "%s: %d of %d shards were written by an earlier release, without checksums; damage is not noticed",
                *(folder, unchecked, len(shards)),
            )
        return cls(folder, header.dimensions, header.extractor, tuple(shards), header, damaged)

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in row order."""
        return [item_id for shard in self.shards for item_id in shard.ids()]

    def batches(self, *, rows: int = 1024, shard: Shard | None = None) -> Iterator[FeatureBatch]:
        """Iterate over all rows in order, or over those of one shard.

        Args:
            rows: maximum number of rows per batch; a batch never spans two shards, so its array is a view, not a copy,
                unless rows of the shard were removed.
            shard: the only shard to read, one of `shards`.

        Raises:
            InvalidInput: rows is less than 1.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for each in self.shards if shard is None else (shard,):
            yield from _read_batches(each, rows)

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Look up the descriptors of some ids: float32 (len(ids), D), in the order of `ids`."""
        if isinstance(ids, str):
            raise InvalidInput(f"ids is one text, {ids!r:.80}; expected a sequence of ids")
        ids, places = list(ids), self._places  # by position, whatever labels they have
        unknown = [item_id for item_id in ids if item_id not in places]
        if unknown:
            raise InvalidInput(f"{len(unknown)} ids are not in {self.folder}, such as {unknown[0]!r}")
        gathered = np.empty((len(ids), self.dimensions), dtype=np.float32)
        for row, item_id in enumerate(ids):
            shard, place = places[item_id]
            if shard not in self._arrays:
                self._arrays[shard] = self.shards[shard].array()
            gathered[row] = self._arrays[shard][place]
        return gathered

    def failures(self) -> list[dict[str, str]]:
        """Return id, path and reason of each photo that could not be read."""
        path = self.folder / "failures.jsonl"
        if not path.exists():
            return []
        try:
            failures = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        except UNREADABLE_JSON as error:
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
            item_id: (number, int(row))
            for number, shard in enumerate(self.shards)
            for row, item_id in zip(shard.places, shard.ids(), strict=True)
        }

    @cached_property
    def _arrays(self) -> dict[int, NDArray[np.float32]]:
        return {}  # opened as needed: opening one reads it as a whole, to compare its checksum


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


def _open_shard(folder: Path, number: int, header: StoreHeader) -> Shard:
    features_path, items_path = folder / f"features-{number:05d}.npy", folder / f"items-{number:05d}.parquet"
    try:
        features, (rows, metadata) = map_array(features_path), read_parquet_footer(items_path)
    except FeatureStoreError as error:
        raise FeatureStoreError(f"{error}. {describe_remedy(items_path)}") from error
    checksums = Checksums.parse(metadata, items_path)
    if checksums is None and header.checksums_from is not None and number >= header.checksums_from:
        raise FeatureStoreError(f"{items_path} is damaged: it has no checksums. {describe_remedy(items_path)}")
    if checksums is not None and checksums.shard != number:
        raise FeatureStoreError(
            f"{items_path} belongs to shard {checksums.shard}, not {number}: files were exchanged. "
            f"{describe_remedy(items_path)}"
        )
    if features.shape != (rows, header.dimensions) or features.dtype != np.float32:
        raise FeatureStoreError(
            f"{features_path} contains {features.dtype} {features.shape}; expected float32 "
            f"({rows}, {header.dimensions}). {describe_remedy(features_path)}"
        )
    shard = Shard(features_path, rows, items_path, number=number, header=header, checksums=checksums)
    if shard.removed and max(shard.removed) >= rows:
        raise FeatureStoreError(
            f"{folder / 'store.json'} is damaged: {items_path.name} has no row {max(shard.removed)}"
        )
    return shard


def _read_batches(shard: Shard, rows: int) -> Iterator[FeatureBatch]:
    if not shard.rows:
        return
    array, items = shard.array(), shard.items()
    for start in range(0, shard.rows, rows):
        part = [dict(item) for item in items[start : start + rows]]
        place: slice | NDArray[np.intp] = slice(start, start + rows)
        if shard.removed:
            place = shard.places[place]
        yield FeatureBatch([str(item.pop("id")) for item in part], array[place], part)
