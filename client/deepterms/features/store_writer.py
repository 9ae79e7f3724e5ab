"""Photos through an extractor into a feature store, shard by shard, so that the next run resumes after a kill.

Both files of a shard are written under temporary names, flushed to disk and renamed, the items last: with that rename
the shard is complete. The next run overwrites all other leftovers, and describes only photos that are in no shard.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput, UnreadableImage
from deepterms.features.images import find_images
from deepterms.features.store import FORMAT, VERSION, FeatureStore
from deepterms.optional import require

__all__ = ["StoreReport", "extract_to_store", "write_store"]

DEFAULT_SHARD_SIZE = 1024  # 8 MB of 2,048 dimensions; the most that a kill loses
_PARTIAL = ".partial"
_LOCK = "writer.lock"


class Outcome(Protocol):
    """The part of `Extracted` that the store needs."""

    @property
    def feature(self) -> NDArray[np.float32] | None: ...
    @property
    def error(self) -> UnreadableImage | None: ...


class StreamExtractor(Protocol):
    """The part of an extractor that the store needs."""

    @property
    def dimensions(self) -> int: ...
    def spec(self) -> dict[str, Any]: ...
    def stream(self, paths: Iterable[str | Path]) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class StoreReport:
    """The result of a run.

    Attributes:
        store: the whole store after the run.
        added: photos described by this run.
        skipped: photos that were already in the store.
        failures: photos that could not be read; the next run retries them.
        changed: ids of skipped photos whose size or modification time changed since they were described; to describe
            them again, write a new store.
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
    paths = _map_ids([Path(path) for path in photos], root)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        store = _open_or_create(folder, extractor)
        stored, changed = _find_stored(store, paths)
        earlier = [failure for failure in store.failures() if failure["id"] not in paths]
        failures = {
            item_id: UnreadableImage(path, "its name is not valid UTF-8; rename it")
            for item_id, path in paths.items()
            if not _is_encodable(str(path) + item_id)
        }
        waiting = {item_id: path for item_id, path in paths.items() if item_id not in stored | failures.keys()}
        done, total = len(paths) - len(waiting), len(paths)
        shard = _UnfinishedShard(folder, len(store.shards))
        added = 0
        try:
            if on_progress is not None:
                on_progress(done, total)
            for (item_id, path), outcome in zip(waiting.items(), extractor.stream(waiting.values()), strict=True):
                if outcome.feature is None:
                    failures[item_id] = outcome.error or UnreadableImage(path, "no descriptor")
                else:
                    shard.add(item_id, path, outcome.feature)
                    added += 1
                if len(shard) == shard_size:
                    _write_failures(folder, earlier, failures)
                    shard.commit()
                    shard = _UnfinishedShard(folder, shard.number + 1)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
        finally:
            _write_failures(folder, earlier, failures)
            if len(shard):
                shard.commit()
    return StoreReport(
        store=FeatureStore.open(folder),
        added=added,
        skipped=len(stored),
        failures=tuple(failures[item_id] for item_id in paths if item_id in failures),
        changed=changed,
    )


@dataclass(frozen=True)
class _KnownExtractor:
    """Stands in for the extractor of existing descriptors."""

    dimensions: int
    of: Mapping[str, Any]

    def spec(self) -> dict[str, Any]:
        return dict(self.of)


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
    partial = folder.with_name(folder.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    partial.mkdir(parents=True)
    with _locked(partial):
        _open_or_create(partial, _KnownExtractor(dimensions, spec))
        shard = _UnfinishedShard(partial, 0)
        for ids, features, paths in batches:
            for item_id, feature, path in zip(ids, features, paths, strict=True):
                shard.add(item_id, Path(path), feature)
                if len(shard) == shard_size:
                    shard.commit()
                    shard = _UnfinishedShard(partial, shard.number + 1)
        if len(shard):
            shard.commit()
    partial.replace(folder)
    return FeatureStore.open(folder)


class _UnfinishedShard:
    """Rows that are not on disk yet."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._folder = folder
        self._features: list[NDArray[np.float32]] = []
        self._items: list[tuple[str, str, int | None, int | None]] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item_id: str, path: Path, feature: NDArray[np.float32]) -> None:
        self._features.append(feature)
        self._items.append((item_id, str(path), *_read_size_and_time(path)))

    def commit(self) -> None:
        pa, pq = _import_pyarrow()
        with _replacing(self._folder / f"features-{self.number:05d}.npy") as file:
            np.save(file, np.stack(self._features).astype(np.float32, copy=False))
        ids, paths, sizes, times = zip(*self._items, strict=True)
        columns = {"id": pa.array(ids, pa.string()), "path": pa.array(paths, pa.string())}
        columns |= {"size": pa.array(sizes, pa.int64()), "mtime_ns": pa.array(times, pa.int64())}
        with _replacing(self._folder / f"items-{self.number:05d}.parquet") as file:
            pq.write_table(pa.table(columns), file)


def _open_or_create(folder: Path, extractor: StreamExtractor | _KnownExtractor) -> FeatureStore:
    """Open the store after removing the leftovers of a killed writer, or create an empty one."""
    for partial in folder.glob(f"*{_PARTIAL}"):
        partial.unlink()
    if not (folder / "store.json").exists():
        others = sorted(entry.name for entry in folder.iterdir() if entry.name != _LOCK)
        if others:
            raise FeatureStoreError(
                f"{folder} is not a feature store, but contains {others[0]!r}; pass an empty folder"
            )
        header = {"format": FORMAT, "version": VERSION, "dimensions": extractor.dimensions}
        header["extractor"] = extractor.spec()
        with _replacing(folder / "store.json") as file:
            file.write(json.dumps(header, indent=1).encode())
    store = FeatureStore.open(folder, extractor_spec=extractor.spec())
    (folder / f"features-{len(store.shards):05d}.npy").unlink(missing_ok=True)  # its items were never renamed
    return store


def _map_ids(paths: list[Path], root: str | Path | None) -> dict[str, Path]:
    by_id: dict[str, Path] = {}
    for path in paths:
        try:
            item_id = (path if root is None else path.relative_to(root)).as_posix()
        except ValueError as error:
            raise InvalidInput(
                f"{path} is not below root {root}, so it has no id; pass a common parent as root"
            ) from error
        if item_id in by_id:
            raise InvalidInput(f"{path} and {by_id[item_id]} both have the id {item_id!r}; expected unique ids")
        by_id[item_id] = path
    return by_id


def _find_stored(store: FeatureStore, paths: dict[str, Path]) -> tuple[set[str], tuple[str, ...]]:
    """Find the ids that are already stored, and those among them whose file has changed since."""
    stored: set[str] = set()
    changed = []
    for shard in store.shards:
        for item in shard.items():
            if item["id"] in paths:
                stored.add(item["id"])
                if (item["size"], item["mtime_ns"]) != _read_size_and_time(paths[item["id"]]):
                    changed.append(item["id"])
    return stored, tuple(changed)


def _read_size_and_time(path: Path) -> tuple[int | None, int | None]:
    try:
        status = path.stat()
    except OSError:  # deleted since it was decoded
        return None, None
    return status.st_size, status.st_mtime_ns


def _is_encodable(name: str) -> bool:
    """Whether Parquet and JSON can represent it: file names may contain any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_failures(folder: Path, earlier: list[dict[str, str]], failures: dict[str, UnreadableImage]) -> None:
    lines = earlier + [
        {"id": item_id, "path": str(failure.path), "reason": failure.reason} for item_id, failure in failures.items()
    ]
    with _replacing(folder / "failures.jsonl") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in lines)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically: after a crash or power failure it is complete or absent."""
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    if sys.platform != "win32":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock out a second writer; the system releases the lock when the process dies. Does nothing on Windows."""
    with (folder / _LOCK).open("wb") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FeatureStoreError(f"another process is writing {folder}; wait until it has finished") from error
        yield


def _import_pyarrow() -> tuple[Any, Any]:
    with require("pyarrow", "features"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet
