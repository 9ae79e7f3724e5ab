"""Photos through an extractor into a feature store, shard by shard, so that the next run resumes after a kill.

The next run describes only photos that are in no shard. To follow changed, moved and deleted files, see `folder_sync`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput, UnreadableImage
from deepterms.features.images import find_images
from deepterms.features.shard_writer import (
    DEFAULT_SHARD_SIZE,
    PARTIAL,
    StreamExtractor,
    UnfinishedShard,
    describe_photos,
    is_encodable,
    locked,
    open_or_create,
    read_state,
    write_failures,
    write_header,
    write_shard,
)
from deepterms.features.store import FeatureStore
from deepterms.features.store_header import read_header

__all__ = ["StoreReport", "discard_damaged", "extract_to_store", "write_store"]


@dataclass(frozen=True)
class StoreReport:
    """The result of a run.

    Attributes:
        store: the whole store after the run.
        added: photos described by this run.
        skipped: photos that were already in the store.
        failures: photos that could not be read; the next run retries them.
        changed: ids of skipped photos whose size or modification time changed since they were described; to describe
            them again, use `deepterms index` or write a new store.
    """

    store: FeatureStore
    added: int
    skipped: int
    failures: tuple[UnreadableImage, ...]
    changed: tuple[str, ...]


def extract_to_store(
    extractor: StreamExtractor,
    photos: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    root: str | Path | None = None,
    shard_size: int = DEFAULT_SHARD_SIZE,
    on_progress: Callable[[int, int], None] | None = None,
) -> StoreReport:
    """Describe photos and store the descriptors; calling it again adds new photos.

    Args:
        extractor: an RMACExtractor.
        photos: a folder, searched by `find_images`, or the files themselves.
        folder: the store, created if it does not exist.
        root: ids are paths relative to this folder, with slashes. By default `photos`, if that is a folder; otherwise
            ids are the paths as given.
        shard_size: photos per shard. A killed process loses its unfinished shard; an interrupted one (Ctrl-C) stores
            it.
        on_progress: called with the number of photos done, including those stored before, and the total.

    Raises:
        FeatureStoreError: the folder contains something else, belongs to a different extractor, or is being written.
        InvalidInput: two photos have the same id.
    """
    if shard_size < 1:
        raise InvalidInput(f"shard_size is {shard_size}; expected 1 or more")
    if isinstance(photos, (str, Path)):
        root = photos if root is None else root
        photos = find_images(photos)
    listed = [Path(path) for path in photos]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        store = open_or_create(folder, dimensions=extractor.dimensions, spec=extractor.spec())
        paths = _map_ids(listed, root, prefix=_find_prefix(store, root))
        stored, changed, taken = _find_stored(store, paths)
        earlier = [failure for failure in store.failures() if failure["id"] not in paths]
        failures = {
            item_id: UnreadableImage(path, "its name is not valid UTF-8; rename it")
            for item_id, path in paths.items()
            if not is_encodable(str(path) + item_id)
        } | taken
        waiting = {item_id: path for item_id, path in paths.items() if item_id not in stored | failures.keys()}
        described = describe_photos(
            extractor,
            waiting,
            UnfinishedShard(folder, len(store.shards)),
            shard_size=shard_size,
            record=lambda found: write_failures(folder, earlier, {**failures, **found}),
            total=len(paths),
            on_progress=on_progress,
        )
        failures |= described.failures
    return StoreReport(
        store=FeatureStore.open(folder),
        added=len(described.stored),
        skipped=len(stored),
        failures=tuple(failures[item_id] for item_id in paths if item_id in failures),
        changed=changed,
    )


def write_store(
    batches: Iterable[tuple[Sequence[str], NDArray[np.float32], Sequence[str]]],
    folder: str | Path,
    *,
    dimensions: int,
    spec: Mapping[str, Any],
    shard_size: int = DEFAULT_SHARD_SIZE,
) -> FeatureStore:
    """Store existing descriptors. The folder appears once all of them are written.

    Args:
        batches: (ids, float32 (n, D), paths).
        folder: the store; must not exist.
        dimensions: D.
        spec: `spec()` of the extractor that made them; `{}` if unknown.
        shard_size: descriptors per shard.

    Raises:
        FeatureStoreError: the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise FeatureStoreError(f"{folder} exists; expected the path of a new folder")
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    partial.mkdir(parents=True)
    with locked(partial):
        open_or_create(partial, dimensions=dimensions, spec=spec)
        shard = UnfinishedShard(partial, 0)
        for ids, features, paths in batches:
            rows = np.asarray(features)  # a table would be read column by column
            for item_id, feature, path in zip(ids, rows, paths, strict=True):
                shard.add(str(item_id), Path(path), feature, read_state(Path(path)))
                if len(shard) == shard_size:
                    shard = shard.commit()
        shard.commit()
    partial.replace(folder)
    return FeatureStore.open(folder)


def discard_damaged(folder: str | Path) -> Mapping[int, str]:
    """Replace the damaged and missing shards of a store by empty ones; the next run describes their photos again.

    Every shard is read. The descriptors of a damaged shard are lost, also the intact ones among them.

    Args:
        folder: the store.

    Returns:
        Number of a shard → what was wrong with it; empty if nothing was.

    Raises:
        FeatureStoreError: there is no such store, its `store.json` is damaged, or it is being written.
    """
    folder = Path(folder)
    read_header(folder)  # before the lock, which would create a file
    with locked(folder):
        store = FeatureStore.open(folder, skip_damaged=True)
        if store.header is not None and store.damaged:
            removed = {number: rows for number, rows in store.header.removed.items() if number not in store.damaged}
            write_header(folder, replace(store.header, removed=removed))
            for number in store.damaged:
                write_shard(folder, number, np.empty((0, store.dimensions), np.float32), ())
    return store.damaged


def _map_ids(paths: list[Path], root: str | Path | None, *, prefix: str) -> dict[str, Path]:
    by_id: dict[str, Path] = {}
    for path in paths:
        try:
            item_id = prefix + (path if root is None else path.relative_to(root)).as_posix()
        except ValueError as error:
            raise InvalidInput(
                f"{path} is not below root {root}, so it has no id; pass a common parent as root"
            ) from error
        if item_id in by_id:
            raise InvalidInput(f"{path} and {by_id[item_id]} both have the id {item_id!r}; expected unique ids")
        by_id[item_id] = path
    return by_id


def _find_prefix(store: FeatureStore, root: str | Path | None) -> str:
    """Return what precedes the ids of a folder; empty unless `sync_folder` has written the store."""
    folders = () if store.header is None else store.header.folders
    resolved = None if root is None else str(Path(root).resolve())
    for folder in folders:
        if folder.path == resolved:
            return folder.prefix
    if folders:
        raise FeatureStoreError(
            f"{store.folder} is in sync with {folders[0].path}{' and others' if len(folders) > 1 else ''}, not with "
            f"{'a list of files' if root is None else root}; pass another store, or use `deepterms index`"
        )
    return ""


def _find_stored(
    store: FeatureStore, paths: dict[str, Path]
) -> tuple[set[str], tuple[str, ...], dict[str, UnreadableImage]]:
    """Find the ids that are already stored, those among them whose file has changed, and those of other files."""
    stored: set[str] = set()
    changed = []
    taken: dict[str, UnreadableImage] = {}
    for shard in store.shards:
        for item in shard.items():
            if (path := paths.get(item["id"])) is None:
                continue
            if _is_other_file(item["path"], path):
                reason = f"its id {item['id']!r} is that of {item['path']} in {store.folder}; pass another store"
                taken[item["id"]] = UnreadableImage(path, reason)
                continue
            stored.add(item["id"])
            if (item["size"], item["mtime_ns"]) != read_state(path)[:2]:
                changed.append(item["id"])
    return stored, tuple(changed), taken


def _is_other_file(stored: str, path: Path) -> bool:
    """Whether a stored path is another file that still exists; a relative one depends on the working directory."""
    try:
        return Path(stored).is_absolute() and stored != str(path) and not path.samefile(stored)
    except OSError:
        return False
