"""Descriptors into the shards of a feature store, so that a kill loses at most the unfinished one.

Both files of a shard are written under temporary names, flushed to disk and renamed, the items last: with that rename
the shard is complete. The next run overwrites all other leftovers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, UnreadableImage
from deepterms.features.checksums import Checksums, hash_array_file, hash_column
from deepterms.features.file_formats import import_parquet
from deepterms.features.store import FeatureStore, Shard
from deepterms.features.store_header import StoreHeader
from deepterms.optional import require

__all__ = [
    "DEFAULT_SHARD_SIZE",
    "LOCK",
    "PARTIAL",
    "FileState",
    "UnfinishedShard",
    "describe_photos",
    "hash_file",
    "is_encodable",
    "locked",
    "open_or_create",
    "read_state",
    "rewrite_times",
    "write_failures",
    "write_header",
    "write_shard",
]

DEFAULT_SHARD_SIZE = 1024  # 8 MB of 2,048 dimensions; the most that a kill loses
PARTIAL = ".partial"
LOCK = "writer.lock"


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


Item: TypeAlias = "tuple[str, str, int | None, int | None, str | None]"  # id, path, size, mtime_ns, hash


class FileState(NamedTuple):
    """What tells whether a file has changed; None where it could not be read.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last modification, in nanoseconds.
        hash: BLAKE2b of the content, 32 hexadecimal digits.
    """

    size: int | None
    mtime_ns: int | None
    hash: str | None = None


def read_state(path: Path) -> FileState:
    """Read the size and modification time of a file, without its hash."""
    try:
        status = path.stat()
    except OSError:
        return FileState(None, None)
    return FileState(status.st_size, status.st_mtime_ns)


def hash_file(path: Path) -> str | None:
    """Hash the content of a regular file; None if it cannot be read, or is something else."""
    state = hashlib.blake2b(digest_size=16)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would block forever
            return None
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                state.update(chunk)
    except OSError:
        return None
    return state.hexdigest()


class UnfinishedShard:
    """Rows that are not on disk yet."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._folder = folder
        self._features: list[NDArray[np.float32]] = []
        self._items: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item_id: str, path: Path, feature: NDArray[np.float32], state: FileState) -> None:
        """Append a row."""
        self._features.append(feature)
        self._items.append((item_id, str(path), *state))

    def commit(self) -> UnfinishedShard:
        """Write both files, unless the shard is empty; return the next shard."""
        if not self._items:
            return self
        write_shard(self._folder, self.number, np.stack(self._features), self._items)
        return UnfinishedShard(self._folder, self.number + 1)


def write_shard(folder: Path, number: int, features: NDArray[np.float32], items: Sequence[Item]) -> None:
    """Write both files of a shard: features (n, D), and n items."""
    pa, pq = _import_pyarrow()
    path = folder / f"features-{number:05d}.npy"
    with _replacing(path) as file:
        np.save(file, features.astype(np.float32, copy=False))
    types = {"id": pa.string(), "path": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64(), "hash": pa.string()}
    columns = dict(zip(types, zip(*items, strict=True) if items else [()] * len(types), strict=True))
    # Of the array as it is on disk; it was written a moment ago, so reading it is cheap.
    sums = Checksums(number, hash_array_file(path), {name: hash_column(values) for name, values in columns.items()})
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    with _replacing(folder / f"items-{number:05d}.parquet") as file:
        pq.write_table(table.replace_schema_metadata(sums.to_metadata()), file)


@dataclass(frozen=True)
class Described:
    """Attributes: ids that were stored, and id → failure of the others."""

    stored: tuple[str, ...]
    failures: Mapping[str, UnreadableImage]


def describe_photos(
    extractor: StreamExtractor,
    waiting: Mapping[str, Path],
    shard: UnfinishedShard,
    *,
    shard_size: int,
    record: Callable[[Mapping[str, UnreadableImage]], None],
    total: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Described:
    """Describe photos and append them to a store. An interruption (Ctrl-C) stores the unfinished shard.

    Args:
        extractor: what describes them.
        waiting: id → file.
        shard: the first one to write.
        shard_size: photos per shard.
        record: writes the failures so far; called before each shard is complete, and at the end.
        total: number of photos, including those that need no description.
        on_progress: called with the number of photos done and the total, at the start and after each photo.
    """
    report = on_progress or (lambda _done, _total: None)
    done = total - len(waiting)
    report(done, total)
    failures: dict[str, UnreadableImage] = {}
    stored: list[str] = []
    states: deque[FileState] = deque()

    def read_paths() -> Iterator[Path]:
        # The state is read before the photo is decoded, so that a change in between is noticed by the next run.
        for path in waiting.values():
            states.append(read_state(path)._replace(hash=hash_file(path)))
            yield path

    try:
        for (item_id, path), outcome in zip(waiting.items(), extractor.stream(read_paths()), strict=True):
            state = states.popleft()
            if outcome.feature is None:
                failures[item_id] = outcome.error or UnreadableImage(path, "no descriptor")
            else:
                shard.add(item_id, path, outcome.feature, state)
                stored.append(item_id)
            if len(shard) == shard_size:
                record(failures)
                shard = shard.commit()
            done += 1
            report(done, total)
    finally:
        record(failures)
        shard.commit()
    return Described(tuple(stored), failures)


def open_or_create(folder: Path, *, dimensions: int, spec: Mapping[str, Any]) -> FeatureStore:
    """Open the store after removing the leftovers of a killed writer, or create an empty one."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink()
    if not (folder / "store.json").exists():
        others = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
        if others:
            raise FeatureStoreError(
                f"{folder} is not a feature store, but contains {others[0]!r}; pass an empty folder"
            )
        write_header(folder, StoreHeader(dimensions, spec, checksums_from=0))
    store = FeatureStore.open(folder, extractor_spec=spec)
    if store.header is not None and store.header.checksums_from is None:
        write_header(folder, replace(store.header, checksums_from=len(store.shards)))
        store = FeatureStore.open(folder)
    (folder / f"features-{len(store.shards):05d}.npy").unlink(missing_ok=True)  # its items were never renamed
    return store


def write_header(folder: Path, header: StoreHeader) -> None:
    """Replace `store.json`."""
    with _replacing(folder / "store.json") as file:
        file.write(header.to_json())


def rewrite_times(shard: Shard, times: Mapping[int, int | None]) -> None:
    """Replace the modification times of some rows of a shard, whose files were touched but have the same content."""
    if shard.items_path is None:
        raise FeatureStoreError(f"{shard.features_path} has no items")
    pa, pq = _import_pyarrow()
    table = pq.read_table(shard.items_path)
    column = [times.get(row, value) for row, value in enumerate(table["mtime_ns"].to_pylist())]
    place = table.schema.get_field_index("mtime_ns")
    table = table.set_column(place, "mtime_ns", pa.array(column, pa.int64()))
    if shard.checksums is not None:
        columns = {**shard.checksums.columns, "mtime_ns": hash_column(column)}
        table = table.replace_schema_metadata(replace(shard.checksums, columns=columns).to_metadata())
    with _replacing(shard.items_path) as file:
        pq.write_table(table, file)


def is_encodable(name: str) -> bool:
    """Whether Parquet and JSON can represent it: file names may contain any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_failures(folder: Path, earlier: list[dict[str, str]], failures: Mapping[str, UnreadableImage]) -> None:
    """Replace `failures.jsonl`."""
    lines = earlier + [
        {"id": item_id, "path": str(failure.path), "reason": failure.reason} for item_id, failure in failures.items()
    ]
    with _replacing(folder / "failures.jsonl") as file:
        file.writelines(json.dumps(line).encode() + b"\n" for line in lines)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically: after a crash or power failure it is complete or absent."""
    partial = path.with_name(path.name + PARTIAL)
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
def locked(folder: Path) -> Iterator[None]:
    """Lock out a second writer; the system releases the lock when the process dies. Does nothing on Windows."""
    with (folder / LOCK).open("wb") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FeatureStoreError(f"another process is writing {folder}; wait until it has finished") from error
        yield


def _import_pyarrow() -> tuple[Any, Any]:
    pq = import_parquet()
    with require("pyarrow", "features"):
        import pyarrow
    return pyarrow, pq
