"""Folders of photos into a feature store that follows them: new, changed, moved and deleted files.

Ids of photos are paths relative to their folder, with slashes. The first folder of a store has these ids as they are;
each further folder has a prefix made of its name and a hash of its path, such as `camB-1f3a9c2e/IMG_0.jpg`. Folders and
prefixes are recorded in the store. A photo belongs to the innermost recorded folder that contains it, so a subfolder of
a recorded folder can be synced by itself, and keeps its ids.

A file is unchanged if its size and modification time are, or else its content. It was moved if a file of the same
content is gone: its descriptor is copied to the new id. If a recorded folder is gone and most of its files are found in
a new one, the whole folder was moved: ids stay, and only paths change.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepterms.errors import FeatureStoreError, InvalidInput, UnreadableImage
from deepterms.features.folder_rows import StoredPhoto, is_gone, read_photos
from deepterms.features.images import find_images
from deepterms.features.shard_writer import (
    DEFAULT_SHARD_SIZE,
    StreamExtractor,
    UnfinishedShard,
    describe_photos,
    hash_file,
    is_encodable,
    locked,
    open_or_create,
    read_state,
    rewrite_times,
    write_failures,
    write_header,
)
from deepterms.features.store import FeatureStore
from deepterms.features.store_header import Rename, StoreFolder, StoreHeader

__all__ = ["SyncReport", "sync_folder"]

MIN_MOVED_SHARE = 0.5  # of the photos of a folder that is gone, for another to be taken as the same folder


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync.

    Attributes:
        store: the whole store after the sync.
        added: ids of photos that are new.
        replaced: ids of photos whose content changed.
        unchanged: number of photos that were described before.
        moved: new id → old id; equal if the whole folder was moved.
        removed: ids of photos that no longer exist; they are still in the store unless `delete_missing` was True.
        failures: photos that could not be read, or whose id is taken; the next run retries them.
        skipped: number of hidden pictures, thumbnails and deleted ones, which `find_images` leaves out.
    """

    store: FeatureStore
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: int
    moved: Mapping[str, str]
    removed: tuple[str, ...]
    failures: tuple[UnreadableImage, ...]
    skipped: int


def sync_folder(
    extractor: StreamExtractor,
    photos: str | Path,
    folder: str | Path,
    *,
    delete_missing: bool = False,
    may_use_plain_ids: Callable[[Path, Sequence[Path]], bool] = lambda _root, _found: True,
    shard_size: int = DEFAULT_SHARD_SIZE,
    on_progress: Callable[[int, int], None] | None = None,
) -> SyncReport:
    """Describe what is new or changed in a folder of photos, and note what was moved or deleted.

    An interrupted sync is resumed by the next one.

    Args:
        extractor: an RMACExtractor.
        photos: the folder, searched by `find_images`.
        folder: the store, created if it does not exist.
        delete_missing: also remove photos from the store that no longer exist.
        may_use_plain_ids: called with the folder and its photos if it is the first of the store; False makes a prefix
            for it all the same, because its ids are in use elsewhere.
        shard_size: photos per shard.
        on_progress: called with the number of photos done and the total.

    Raises:
        FeatureStoreError: the store contains something else, belongs to a different extractor, or is being written.
        InvalidInput: `delete_missing` would remove everything, because no photo was found.
    """
    root, folder = Path(photos).resolve(), Path(folder)
    found = find_images(root)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        store = open_or_create(folder, dimensions=extractor.dimensions, spec=extractor.spec())
        plan = _make_plan(store, root, found, may_use_plain_ids)
        removed = plan.find_missing(root)
        if delete_missing and removed and not found:
            raise InvalidInput(
                f"{root} contains no photographs, but {len(removed)} in the store are from it; is the drive mounted? "
                "If they are to be deleted all the same, use --delete-folder"
            )
        unfinished = _apply(store, plan, removed if delete_missing else [], shard_size)
        earlier = [line for line in store.failures() if not Path(line["path"]).is_relative_to(root)]
        described = describe_photos(
            extractor,
            plan.waiting,
            unfinished,
            shard_size=shard_size,
            record=lambda failed: write_failures(folder, earlier, {**plan.failures, **failed}),
            total=len(found),
            on_progress=on_progress,
        )
    return SyncReport(
        store=FeatureStore.open(folder),
        added=tuple(item_id for item_id in described.stored if item_id not in plan.replaced),
        replaced=tuple(item_id for item_id in described.stored if item_id in plan.replaced),
        unchanged=plan.unchanged,
        moved=plan.moved | {item_id: photo.id for item_id, (photo, _) in plan.copies.items()},
        removed=tuple(photo.id for photo in removed),
        failures=(*plan.failures.values(), *described.failures.values()),
        skipped=found.skipped,
    )


@dataclass
class _Plan:
    """What to do with each photo.

    Attributes:
        header: of the store, with the folders as they are now.
        photos: id → photo of the store that still counts.
        waiting: id → file to describe.
        replaced: ids of stored photos whose content changed.
        moved: id → id of photos that kept their id while their folder was moved.
        copies: new id → the stored photo that was moved, and where it is now.
        dropped: photos of the store that no longer count.
        touched: photos with another modification time, and the same content.
        unchanged: number of photos.
        failures: id → reason.
        seen: ids of stored photos whose file was found.
    """

    header: StoreHeader
    photos: dict[str, StoredPhoto]
    waiting: dict[str, Path] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    copies: dict[str, tuple[StoredPhoto, Path]] = field(default_factory=dict)
    dropped: list[StoredPhoto] = field(default_factory=list)
    touched: list[tuple[StoredPhoto, int | None]] = field(default_factory=list)
    unchanged: int = 0
    failures: dict[str, UnreadableImage] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def drop(self, photo: StoredPhoto) -> None:
        """Stop counting a photo of the store."""
        del self.photos[photo.id]
        self.dropped.append(photo)

    def find_missing(self, root: Path) -> list[StoredPhoto]:
        """Find photos below a folder that no longer exist."""
        return [
            photo
            for photo in self.photos.values()
            if photo.id not in self.seen and Path(photo.path).is_relative_to(root) and is_gone(photo.path)
        ]

    def compare(self, photo: StoredPhoto, path: Path) -> None:
        """Decide whether a stored photo is unchanged."""
        self.seen.add(photo.id)
        state = read_state(path)
        if state.size is None:  # a link to nowhere, or a network drive with a problem: nothing says that it changed
            self.failures[photo.id] = UnreadableImage(path, "it cannot be opened; its earlier descriptor is kept")
        elif (photo.size, photo.mtime_ns) == state[:2] or photo.has_content_of(path):
            if photo.mtime_ns != state.mtime_ns:
                self.touched.append((photo, state.mtime_ns))
            self.unchanged += photo.id not in self.moved
        else:
            self.replaced.add(photo.id)
            self.waiting[photo.id] = path
            self.moved.pop(photo.id, None)
            self.drop(photo)


def _make_plan(
    store: FeatureStore, root: Path, found: list[Path], may_use_plain_ids: Callable[[Path, Sequence[Path]], bool]
) -> _Plan:
    if store.header is None:
        raise FeatureStoreError(f"{store.folder} has no header")
    photos = read_photos(store)
    header = store.header
    if not header.folders:
        header = replace(header, folders=_infer_folders(photos))
    plan = _Plan(header, {photo.id: photo for photo in photos})
    if not _is_recorded(plan.header, root):
        _follow_folder(plan, root, found, len(store.shards))
    if not _is_recorded(plan.header, root):
        is_first = not plan.header.folders and not photos
        plain = is_first and may_use_plain_ids(root, found)
        prefix = "" if plain else _make_prefix(root, plan)
        plan.header = replace(plan.header, folders=(*plan.header.folders, StoreFolder(str(root), prefix)))

    by_path = {photo.path: photo for photo in plan.photos.values()}
    folders = sorted(plan.header.folders, key=lambda folder: -len(Path(folder.path).parts))
    new: dict[str, Path] = {}
    for path in found:
        if (photo := by_path.get(str(path))) is not None:
            plan.compare(photo, path)
            continue
        item_id = next(folder for folder in folders if path.is_relative_to(folder.path)).make_id(path)
        if not is_encodable(str(path) + item_id):
            plan.failures[item_id] = UnreadableImage(path, "its name is not valid UTF-8; rename it")
        elif item_id in new:
            plan.failures[item_id] = UnreadableImage(path, f"its id {item_id!r} is that of {new[item_id]}; rename it")
        else:
            new[item_id] = path
    _place_new(plan, new)
    return plan


def _place_new(plan: _Plan, new: Mapping[str, Path]) -> None:
    """Decide which of the new files were moved from elsewhere."""
    by_size: dict[int | None, list[StoredPhoto]] = {}
    for photo in plan.photos.values():
        if photo.hash is not None and photo.id not in plan.seen:
            by_size.setdefault(photo.size, []).append(photo)
    for item_id, path in new.items():
        candidates = by_size.get(read_state(path).size, [])
        known = plan.photos.get(item_id)
        if known is not None and not is_gone(known.path):
            reason = f"its id {item_id!r} is that of {known.path}; rename one of them"
            plan.failures[f"{item_id} ({path})"] = UnreadableImage(path, reason)
            continue
        content = hash_file(path) if any(is_gone(photo.path) for photo in candidates) else None
        same = [photo for photo in candidates if photo.hash == content and is_gone(photo.path)] if content else []
        # Prefer the file that had this id, then one of the same name.
        origin = min(same, key=lambda photo: (photo.id != item_id, Path(photo.path).name != path.name), default=None)
        if known is not None and known is not origin:
            plan.replaced.add(item_id)
            plan.drop(known)
            if known in candidates:
                candidates.remove(known)
        if origin is None:
            plan.waiting[item_id] = path
        else:
            candidates.remove(origin)
            plan.drop(origin)
            plan.copies[item_id] = (origin, path)


def _is_recorded(header: StoreHeader, root: Path) -> bool:
    return any(root.is_relative_to(folder.path) for folder in header.folders)


def _infer_folders(photos: Sequence[StoredPhoto]) -> tuple[StoreFolder, ...]:
    """Find the folder of a store of version 1, which recorded paths relative to it as ids: that of most photos."""
    roots = Counter(
        photo.path.removesuffix(f"/{photo.id}")
        for photo in photos
        if photo.path.endswith(f"/{photo.id}") and Path(photo.path).is_absolute()
    )
    return tuple(StoreFolder(root or "/", "") for root, _ in roots.most_common(1))


def _follow_folder(plan: _Plan, root: Path, found: Sequence[Path], shards: int) -> None:
    """Take `root` as a recorded folder that is gone, if it contains most of its photos; their ids stay."""
    existing = set(map(str, found))
    for folder in plan.header.folders:
        if not is_gone(folder.path):
            continue
        rename = Rename(folder.path, str(root), shards)
        inside = [photo for photo in plan.photos.values() if Path(photo.path).is_relative_to(folder.path)]
        there = {photo.id: rename.apply(photo.path, -1) for photo in inside}
        same = {
            photo.id
            for photo in inside
            if there[photo.id] in existing
            and (
                (photo.size, photo.mtime_ns) == read_state(Path(there[photo.id]))[:2]
                or photo.has_content_of(Path(there[photo.id]))
            )
        }
        if not same or len(same) < MIN_MOVED_SHARE * len(inside):
            continue
        plan.photos |= {photo.id: photo._replace(path=there[photo.id]) for photo in inside}
        plan.moved = {item_id: item_id for item_id in same}
        plan.header = replace(
            plan.header,
            renames=(*plan.header.renames, rename),
            folders=tuple(
                replace(entry, path=rename.apply(entry.path, -1))
                if entry is not folder
                else replace(folder, path=str(root))
                for entry in plan.header.folders
            ),
        )
        return


def _make_prefix(root: Path, plan: _Plan) -> str:
    """Make the prefix of a further folder: the same for the same path, in any store."""
    digest = hashlib.blake2b(os.fsencode(root), digest_size=16).hexdigest()
    taken = {folder.prefix for folder in plan.header.folders}
    for length in range(8, len(digest) + 1):
        prefix = f"{root.name or 'root'}-{digest[:length]}/"
        if prefix not in taken and not any(item_id.startswith(prefix) for item_id in plan.photos):
            return prefix
    raise FeatureStoreError(f"no prefix for the ids of {root} is free; pass another store")


def _apply(store: FeatureStore, plan: _Plan, deleted: Sequence[StoredPhoto], shard_size: int) -> UnfinishedShard:
    """Write what is known before any photo is described: the header first, as one kill may follow.

    Returns:
        The next shard.
    """
    times: dict[int, dict[int, int | None]] = {}
    for photo, mtime_ns in plan.touched:
        times.setdefault(photo.shard, {})[photo.row] = mtime_ns
    for number, changed in times.items():
        rewrite_times(store.shards[number], changed)
    write_header(store.folder, plan.header.remove((photo.shard, photo.row) for photo in (*plan.dropped, *deleted)))
    shard = UnfinishedShard(store.folder, len(store.shards))
    for item_id, (photo, path) in plan.copies.items():
        feature = store.shards[photo.shard].array()[photo.row]
        shard.add(item_id, path, feature, read_state(path)._replace(hash=photo.hash))
        if len(shard) == shard_size:
            shard = shard.commit()
    return shard.commit()
