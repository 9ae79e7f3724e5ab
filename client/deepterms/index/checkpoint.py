"""Checkpoints: a file that records which pieces of a long ingest were acknowledged, so a rerun sends only the rest.

The first line identifies the index. Each further line holds the hash of one piece of the stream (ids, descriptors and
metadata) and its number of documents; it is flushed to disk once every document of the piece has been acknowledged.
After an interruption at any point, even in the middle of a line, at worst the pieces in flight are sent twice, and
indexing a document twice replaces it with itself.

If an id occurs in two pieces, the later one counts, also when only the earlier one has to be sent again: a piece is
done only if no piece before it in the stream that shares an id with it is sent in this run or was recorded after it. To
know that, ids are kept while pieces that earlier runs have recorded are still to come.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deepterms.errors import CheckpointMismatch
from deepterms.inspection.reconciliation import hash_ids
from deepterms.schema.documents import Batch
from deepterms.terms import TermFrequencies

__all__ = ["Checkpoint", "hash_piece"]

_VERSION = 1
_RECENT = 65_536
_SENT = sys.maxsize
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,9})")


class Checkpoint:
    """The pieces of one stream that one index has acknowledged; a context manager that closes the file.

    It takes about half a byte of memory per document, since one hash stands for a whole piece.

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
        self._lines = 0
        self._held: dict[bytes, int] = {}  # piece → its last line in the file
        self._occurred: Counter[str] = Counter()  # hash → how often this stream contained it so far
        header = {"deepterms_checkpoint": _VERSION, **owner}
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._read(header)
        except BaseException:
            os.close(self._file)
            raise
        # Pieces of earlier runs, in the order of their last lines, and those that this stream has reached.
        self._earlier = sorted(self._held, key=self._held.__getitem__)
        self._reached: set[bytes] = set()
        self._first = 0  # the first of `_earlier` that is still to come
        self._rewritten = _Ids()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def holds(self, piece: str) -> bool:
        """Whether every document of a piece has been acknowledged, in whatever order.

        Args:
            piece: from `hash_piece`.
        """
        return bytes.fromhex(piece) in self._held

    def enter(self, digest: str, ids: Sequence[str]) -> tuple[str, bool]:
        """Take the next piece of the stream.

        Args:
            digest: from `hash_piece`.
            ids: ids of the piece.

        Returns:
            The piece, for `record`, and whether it is done: all its documents were acknowledged, and nothing that was
            sent after them replaces them.
        """
        piece = _name_piece(digest, occurrence=self._occurred[digest])
        self._occurred[digest] += 1
        key = bytes.fromhex(piece)
        self._reached.add(key)
        while self._first < len(self._earlier) and self._earlier[self._first] in self._reached:
            self._first += 1
        line = self._held.get(key)
        done = line is not None and not self._rewritten.are_behind(ids, line=line)
        written = line if done and line is not None else _SENT
        if self._first == len(self._earlier):
            self._rewritten = _Ids()  # no piece that is still to come was recorded
        elif self._held[self._earlier[self._first]] < written:
            self._rewritten.add(ids, line=written)
        return piece, done

    def record(self, piece: str, *, documents: int) -> None:
        """Record that every document of a piece has been acknowledged; it is on disk when this returns."""
        self._write(f"{piece} {documents}\n".encode())
        self.acknowledged += self._hold(bytes.fromhex(piece), documents)

    def _hold(self, key: bytes, documents: int) -> int:
        """Remember a line; return how many documents it adds."""
        added = 0 if key in self._held else documents
        self._held[key] = self._lines
        self._lines += 1
        return added

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
                    self.acknowledged += self._hold(piece, int(match[2]))

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


class _Ids:
    """The last line that each of many ids was written with, in 16 bytes per id; a collision only sends a piece again.

    Ids that this run sends have the line `_SENT`, which is after all others.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.uint64)  # ascending
        self._lines = np.empty(0, dtype=np.int64)
        self._recent: dict[int, int] = {}

    def add(self, ids: Sequence[str], *, line: int) -> None:
        for number in hash_ids(list(ids)).tolist():
            self._recent[number] = max(line, self._recent.get(number, -1))
        if len(self._recent) > max(_RECENT, len(self._hashes) // 4):
            hashes = np.append(self._hashes, np.fromiter(self._recent.keys(), dtype=np.uint64))
            lines = np.append(self._lines, np.fromiter(self._recent.values(), dtype=np.int64))
            order = np.lexsort((lines, hashes))
            hashes, lines = hashes[order], lines[order]
            last = np.append(hashes[1:] != hashes[:-1], True)  # of equal hashes, the one with the last line
            self._hashes, self._lines, self._recent = hashes[last], lines[last], {}

    def are_behind(self, ids: Sequence[str], *, line: int) -> bool:
        """Whether one of these ids was written after a line."""
        if not self._recent and not len(self._hashes):
            return False
        hashes = hash_ids(list(ids))
        if any(self._recent.get(number, -1) > line for number in hashes.tolist()):
            return True
        if not len(self._hashes):
            return False
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return bool(((self._hashes[places] == hashes) & (self._lines[places] > line)).any())


def _name_piece(digest: str, *, occurrence: int) -> str:
    """Name a piece: its hash, or, if the stream contained the same content before, one that counts that."""
    if not occurrence:
        return digest
    return hashlib.blake2b(f"{digest} {occurrence}".encode(), digest_size=16).hexdigest()


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
