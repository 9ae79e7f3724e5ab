"""Checkpoints: a file that records which pieces of a long ingest were acknowledged, so a rerun sends only the rest.

The first line identifies the index. Each further line holds the hash of one piece of the stream (ids, descriptors and
metadata) and its number of documents; it is flushed to disk once every document of the piece has been acknowledged.
After an interruption at any point, even in the middle of a line, at worst the pieces in flight are sent twice, and
indexing a document twice replaces it with itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from deepterms.errors import CheckpointMismatch
from deepterms.schema.documents import Batch
from deepterms.terms import TermFrequencies

__all__ = ["Checkpoint", "hash_piece"]

_VERSION = 1
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,9})")


class Checkpoint:
    """The pieces of one stream that one index has acknowledged; a context manager that closes the file.

    It takes about 0.2 bytes of memory per document, since one hash stands for a whole piece.

    Args:
        path: the file; created if it does not exist.
        owner: the index and encoder that the checkpoint belongs to, as plain JSON.

    Attributes:
        acknowledged: number of documents in the index according to the file.

    Raises:
        CheckpointMismatch: the file belongs to another index or encoder, or is not a checkpoint.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: str | Path, *, owner: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.acknowledged = 0
        self._held: set[bytes] = set()
        header = {"deepterms_checkpoint": _VERSION, **owner}
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._read(header)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def holds(self, piece: str) -> bool:
        """Whether every document of a piece has been acknowledged.

        Args:
            piece: from `hash_piece`.
        """
        return bytes.fromhex(piece) in self._held

    def record(self, piece: str, *, documents: int) -> None:
        """Record that every document of a piece has been acknowledged; it is on disk when this returns."""
        self._write(f"{piece} {documents}\n".encode())
        self._held.add(bytes.fromhex(piece))
        self.acknowledged += documents

    def _read(self, header: Mapping[str, Any]) -> None:
        with self.path.open("rb") as file:
            first, own = file.readline(), json.dumps(header, ensure_ascii=False).encode() + b"\n"
            # A new file, or one interrupted within its first line. Never truncate any other file: it is not ours.
            if not first.endswith(b"\n") and own.startswith(first):
                os.ftruncate(self._file, 0)
                self._write(own)
                _flush_folder(self.path.parent)
                return
            self._require(first, json.loads(json.dumps(header)))
            whole = len(first)
            for line in file:
                if not line.endswith(b"\n"):  # interrupted while writing; that piece is sent again
                    os.ftruncate(self._file, whole)
                    break
                whole += len(line)
                if (match := _LINE.fullmatch(line[:-1])) and (piece := bytes.fromhex(match[1].decode())):
                    self.acknowledged += 0 if piece in self._held else int(match[2])
                    self._held.add(piece)

    def _require(self, first: bytes, expected: Mapping[str, Any]) -> None:
        try:
            found = json.loads(first)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or "deepterms_checkpoint" not in found:
            raise CheckpointMismatch(f"{self.path} is not a deepterms checkpoint; pass another path")
        if found != expected:
            differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
            got = ", ".join(f"{key} is {found.get(key)!r} in the file, now {expected.get(key)!r}" for key in differing)
            raise CheckpointMismatch(
                f"the checkpoint {self.path} belongs to another index: {got}. Delete it to send all documents again"
            )

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)


def hash_piece(batch: Batch) -> str:
    """Hash the ids, descriptors or terms, and metadata of a piece, in order, to 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    state.update(json.dumps([batch.ids, batch.metadata], separators=(",", ":")).encode())
    if isinstance(batch.content, TermFrequencies):
        for part in (batch.content.matrix.indptr, batch.content.matrix.indices, batch.content.matrix.data):
            state.update(part.astype("<i4", copy=False).tobytes())
    else:
        state.update(batch.content.astype("<f4", order="C", copy=False).tobytes())
    return state.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Flush the folder, so that a new file's name is as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
