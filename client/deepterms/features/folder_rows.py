"""Rows of a feature store into the photos that it knows: whether their files changed, and how to forget a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from deepterms.errors import InvalidInput
from deepterms.features.shard_writer import hash_file, locked, read_state, write_header
from deepterms.features.store import FeatureStore
from deepterms.features.store_header import read_header

__all__ = ["StoredPhoto", "forget_folder", "is_gone", "read_photos"]


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


def forget_folder(store: str | Path, photos: str | Path) -> tuple[str, ...]:
    """Remove all photos of a folder from a store, whether or not they still exist.

    Args:
        store: the store.
        photos: the folder, or a subfolder.

    Returns:
        The ids of the photos.

    Raises:
        FeatureStoreError: the store is missing or damaged, or is being written.
        InvalidInput: the store contains nothing from this folder.
    """
    root = Path(photos).resolve()
    read_header(Path(store))  # before the lock, which would create a file
    with locked(Path(store)):
        opened = FeatureStore.open(store)
        inside = [photo for photo in read_photos(opened) if Path(photo.path).is_relative_to(root)]
        header = opened.header
        if header is None or not (inside or any(folder.path == str(root) for folder in header.folders)):
            known = ", ".join(folder.path for folder in header.folders) if header is not None else ""
            raise InvalidInput(f"{store} contains no photos of {root}; its folders are: {known or 'not recorded'}")
        folders = tuple(folder for folder in header.folders if not Path(folder.path).is_relative_to(root))
        header = header.remove((photo.shard, photo.row) for photo in inside)
        write_header(opened.folder, replace(header, folders=folders))
    return tuple(photo.id for photo in inside)
