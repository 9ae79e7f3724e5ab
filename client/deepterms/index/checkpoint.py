"""Checkpoints: a file that says which documents of a long ingest the cluster has acknowledged, so that a repeated call
sends only the rest.

The first line names the index; each further line is the hash of a piece of the stream, ids, descriptors and metadata,
and its number of documents. It is written and flushed to the disk after every document of the piece was acknowledged.
So whatever is cut, a kill in the middle of a line included, costs one more sending at most, and a whole document that
is sent twice is indexed once.
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

__all__ = ["Checkpoint", "piece_hash"]

_VERSION = 1
_LINE = re.compile(rb"([0-9a-f]{32}) ([0-9]{1,9})")


class Checkpoint:
    """What a cluster has acknowledged of one stream into one index; a context manager, closed at the end.

    Memory is 0.2 bytes a document or so, as a piece is named by one hash.

    Args:
        path: the file; made if it does not exist.
        owner: what the acknowledgements belong to, as plain JSON: the index, and the encoder.

    Attributes:
        acknowledged: how many documents the file says are in the index.

    Raises:
        CheckpointMismatch: the file belongs to something else, or is no checkpoint.
        OSError: it cannot be read or written.
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
        """Whether every document of a piece was acknowledged.

        Args:
            piece: from `piece_hash`.
        """
        return bytes.fromhex(piece) in self._held

    def record(self, piece: str, *, documents: int) -> None:
        """Note that every document of a piece was acknowledged; it is on the disk when this returns."""
        self._write(f"{piece} {documents}\n".encode())
        self._held.add(bytes.fromhex(piece))
        self.acknowledged += documents

    def _read(self, header: Mapping[str, Any]) -> None:
        with self.path.open("rb") as file:
            first, own = file.readline(), json.dumps(header, ensure_ascii=False).encode() + b"\n"
            # New, or cut before anything was acknowledged. Any other file without a line's end is not ours to empty.
            if not first.endswith(b"\n") and own.startswith(first):
                os.ftruncate(self._file, 0)
                self._write(own)
                _flush_folder(self.path.parent)
                return
            self._require(first, json.loads(json.dumps(header)))
            whole = len(first)
            for line in file:
                if not line.endswith(b"\n"):  # a kill cut it: what it would say is sent again
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
            raise CheckpointMismatch(f"{self.path} is no checkpoint of deepterms; pass the path of another file")
        if found != expected:
            differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
            got = ", ".join(f"{key} is {found.get(key)!r} in it, {expected.get(key)!r} now" for key in differing)
            raise CheckpointMismatch(
                f"the checkpoint {self.path} belongs to another index: {got}. Delete it, and everything is sent anew"
            )

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)


def piece_hash(batch: Batch) -> str:
    """32 hexadecimal digits for the documents of a piece: ids, descriptors or terms, and metadata, in their order."""
    state = hashlib.blake2b(digest_size=16)
    state.update(json.dumps([batch.ids, batch.metadata], separators=(",", ":")).encode())
    if isinstance(batch.content, TermFrequencies):
        for part in (batch.content.matrix.indptr, batch.content.matrix.indices, batch.content.matrix.data):
            state.update(part.astype("<i4", copy=False).tobytes())
    else:
        state.update(batch.content.astype("<f4", order="C", copy=False).tobytes())
    return state.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Makes a new file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
