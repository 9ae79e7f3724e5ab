"""Rows of a feature store into the photos that it knows, and whether their files still are what was described."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deepterms.features.shard_writer import hash_file, read_state
from deepterms.features.store import FeatureStore

__all__ = ["StoredPhoto", "is_gone", "read_photos"]


class StoredPhoto(NamedTuple):
    """A row of the store.

    Attributes:
        shard: its number.
        row: its place in the files of the shard.
        id: of the document.
        size: of the file when it was described, in bytes; None if it could not be read then.
        mtime_ns: its modification time then.
        hash: of its content; None in stores that were written before hashes were.
        path: of the file.
    """

    shard: int
    row: int
    id: str
    size: int | None
    mtime_ns: int | None
    hash: str | None
    path: str

    def has_content_of(self, path: Path) -> bool:
        """Whether a file has the content that was described."""
        return self.hash is not None and self.size == read_state(path).size and self.hash == hash_file(path)


def read_photos(store: FeatureStore) -> list[StoredPhoto]:
    """Read the photos of a store, without removed ones."""
    photos = []
    for shard in store.shards:
        items = shard.all_items()
        for row in map(int, shard.places):
            item = items[row]
            state = item.get("size"), item.get("mtime_ns"), item.get("hash")
            photos.append(StoredPhoto(shard.number, row, item["id"], *state, item["path"]))
    return photos


def is_gone(path: str | Path) -> bool:
    """Whether there is certainly no such file or link: a folder without permission does not count."""
    try:
        Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
