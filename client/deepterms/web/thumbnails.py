"""Photographs: files below a few folders, and below no others, as thumbnails."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput, UnreadableImage
from deepterms.web.decoder import Decoder

__all__ = ["Photographs", "Thumbnail"]

SIDE = 480  # pixels of the longer side: the page shows half of it, or less
KEPT = 2_000  # thumbnails, about 30 kB each
MAX_FILE = 256 << 20  # bytes


@dataclass(frozen=True)
class Thumbnail:
    """One thumbnail.

    Attributes:
        jpeg: the picture.
        etag: differs when the file has changed.
    """

    jpeg: bytes
    etag: str


class Photographs:
    """The files that documents were made from.

    Args:
        roots: the folders; a file that is not below one of them, once all links are followed, is never opened.
        decoder: of the files.

    Raises:
        InvalidInput: a root is no folder.
    """

    def __init__(self, roots: Iterable[str | Path], decoder: Decoder) -> None:
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)
        for root in self.roots:
            if not root.is_dir():
                raise InvalidInput(f"{root} is not a folder; name folders with the photographs of the index")
        self._decoder = decoder
        self._kept: OrderedDict[str, Thumbnail] = OrderedDict()
        self._lock = threading.Lock()

    def thumbnail(self, id: str, metadata: Mapping[str, Any]) -> Thumbnail | None:
        """The thumbnail of a document's photograph; None if there is no such file below the roots.

        Args:
            id: of the document.
            metadata: of the document; ``path`` names the file, absolute or below a root. Without one, the id does.

        Raises:
            UnreadableImage: the file cannot be decoded within the limits.
        """
        for path in self._places(str(metadata.get("path", id))):
            opened = self._opened(path)
            if opened is None:
                continue
            with os.fdopen(opened, "rb") as file:
                status = os.fstat(opened)
                etag = hashlib.sha256(f"{path}\0{status.st_mtime_ns}\0{status.st_size}".encode()).hexdigest()[:32]
                with self._lock:
                    if etag in self._kept:
                        self._kept.move_to_end(etag)
                        return self._kept[etag]
                if status.st_size > MAX_FILE:
                    raise UnreadableImage("the picture", "the file is too large for a thumbnail")
                content = file.read()
            made = Thumbnail(self._decoder.thumbnail(content, side=SIDE), etag)
            with self._lock:
                self._kept[etag] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return made
        return None

    def _places(self, named: str) -> Iterator[str]:
        """Where a photograph may be, with all links followed, as far as that is below a root."""
        if "\0" in named or not named:
            return
        given = Path(named)
        for candidate in [given] if given.is_absolute() else [*(root / given for root in self.roots), given]:
            place = os.path.realpath(candidate)
            if self._allowed(place):
                yield place

    def _allowed(self, place: str) -> bool:
        return any(root in Path(place).parents for root in self.roots)

    def _opened(self, place: str) -> int | None:
        """A descriptor of a regular file; None if there is none, or if links changed while it was being opened."""
        try:
            # Not blocking: a named pipe would wait for ever.
            descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError):
            return None
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not regular or not self._allowed(_place_of(descriptor, place)):
            os.close(descriptor)
            return None
        return descriptor


def _place_of(descriptor: int, place: str) -> str:
    """Where an open file is by now: a folder on the way may have become a link since `realpath` looked."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # not Linux
        return os.path.realpath(place)
