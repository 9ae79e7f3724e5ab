"""`store.json` of a feature store into what changes after a shard is written, and back.

Shards never change. What became of their photos is in the header, which is replaced as a whole:

    {"format": "deepterms-features", "version": 2, "dimensions": D, "extractor": spec,
     "folders": [{"path": "/photos/camA", "prefix": ""}, {"path": "/photos/camB", "prefix": "camB-1f3a9c2e/"}],
     "renames": [{"before": "/old/camA", "after": "/photos/camA", "shards": 3}],
     "removed": {"0": [17, 230]},
     "checksums_from": 0, "crc32": 3405691582}

`checksums_from` is the first shard that has checksums, which earlier releases did not write; `crc32` is that of the
rest of this file.

Version 1 has only the first four; a store remains at version 1 until `sync_folder` writes it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from deepterms.errors import FeatureStoreError
from deepterms.features.file_formats import UNREADABLE_JSON

__all__ = ["FORMAT", "Rename", "StoreFolder", "StoreHeader", "read_header"]

FORMAT = "deepterms-features"
VERSIONS = (1, 2)


@dataclass(frozen=True)
class StoreFolder:
    """A folder of photos that a store is kept in sync with.

    Attributes:
        path: the folder, absolute.
        prefix: what precedes a relative path in the ids of its photos; empty, or ending in a slash.
    """

    path: str
    prefix: str

    def make_id(self, path: Path) -> str:
        """Return the id of a photo below this folder."""
        return self.prefix + path.relative_to(self.path).as_posix()


@dataclass(frozen=True)
class Rename:
    """A folder that was moved as a whole, after its photos were described.

    Attributes:
        before: its path in the items of the shards.
        after: its new path.
        shards: number of shards that were written before the move; it does not apply to later ones.
    """

    before: str
    after: str
    shards: int

    def apply(self, path: str, shard: int) -> str:
        """Return the path of a photo after the move."""
        if shard >= self.shards or not PurePath(path).is_relative_to(self.before):
            return path
        return str(PurePath(self.after, PurePath(path).relative_to(self.before)))


@dataclass(frozen=True)
class StoreHeader:
    """The content of `store.json`.

    Attributes:
        dimensions: D.
        extractor: `spec()` of the extractor; `{}` if unknown.
        folders: in the order in which they were added; empty in a store of version 1.
        renames: in the order in which they happened.
        removed: number of a shard → rows that no longer count, because the photo was replaced, moved or deleted.
        checksums_from: number of the first shard that has checksums; None if only earlier releases wrote the store.
    """

    dimensions: int
    extractor: Mapping[str, Any]
    folders: tuple[StoreFolder, ...] = ()
    renames: tuple[Rename, ...] = ()
    removed: Mapping[int, frozenset[int]] = field(default_factory=dict)
    checksums_from: int | None = None

    def remove(self, places: Iterable[tuple[int, int]]) -> StoreHeader:
        """Return a header with further removed rows, given as (shard, row)."""
        removed = {number: set(rows) for number, rows in self.removed.items()}
        for number, row in places:
            removed.setdefault(number, set()).add(row)
        return replace(self, removed={number: frozenset(rows) for number, rows in removed.items()})

    def current_path(self, path: str, shard: int) -> str:
        """Return where the photo of an item lies now, or lay before it was deleted."""
        for rename in self.renames:
            path = rename.apply(path, shard)
        return path

    def to_json(self) -> bytes:
        """Return the content of the file."""
        content: dict[str, Any] = {"format": FORMAT, "version": 1, "dimensions": self.dimensions}
        content["extractor"] = dict(self.extractor)
        if self.folders or self.removed:
            content["version"] = 2
            content["folders"] = [vars(folder) for folder in self.folders]
            content["renames"] = [vars(rename) for rename in self.renames]
            content["removed"] = {str(number): sorted(rows) for number, rows in sorted(self.removed.items())}
        if self.checksums_from is not None:
            content["checksums_from"] = self.checksums_from
        content["crc32"] = _hash_header(content)
        return json.dumps(content, indent=None if self.removed else 1).encode()


def read_header(folder: Path) -> StoreHeader:
    """Read and check the header of a store.

    Raises:
        FeatureStoreError: it is missing, damaged, or of a version that this release cannot read.
    """
    file = folder / "store.json"
    try:
        header = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise FeatureStoreError(f"{folder} is not a feature store: it has no store.json") from error
    except UNREADABLE_JSON as error:
        raise FeatureStoreError(f"{file} cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or not {"dimensions", "extractor"} <= set(header):
        raise FeatureStoreError(f"{file} does not describe a feature store")
    if header.get("version") not in VERSIONS:
        raise FeatureStoreError(
            f"{folder} has format version {header.get('version')}; this release of deepterms reads versions "
            f"{VERSIONS[0]} to {VERSIONS[-1]}"
        )
    dimensions, extractor = header["dimensions"], header["extractor"]
    if type(dimensions) is not int or dimensions < 1 or not isinstance(extractor, dict):
        raise FeatureStoreError(
            f"{file} is damaged: dimensions is {dimensions!r} and extractor is a "
            f"{type(extractor).__name__}; expected a positive integer and an object"
        )
    if "crc32" in header and header["crc32"] != _hash_header(header):
        raise FeatureStoreError(f"{file} is damaged: its checksum is wrong. Copy it again")
    try:
        return StoreHeader(
            dimensions,
            extractor,
            tuple(StoreFolder(_text(item["path"]), _text(item["prefix"])) for item in header.get("folders", [])),
            tuple(
                Rename(_text(item["before"]), _text(item["after"]), _number(item["shards"]))
                for item in header.get("renames", [])
            ),
            {int(key): frozenset(map(_number, rows)) for key, rows in header.get("removed", {}).items()},
            _number(header["checksums_from"]) if "checksums_from" in header else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FeatureStoreError(f"{file} is damaged: folders, renames or removed is not valid ({error})") from error


def _hash_header(content: Mapping[str, Any]) -> int:
    kept = {key: value for key, value in content.items() if key != "crc32"}
    return zlib.crc32(json.dumps(kept, sort_keys=True).encode())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.80} is not a number")
    return value
