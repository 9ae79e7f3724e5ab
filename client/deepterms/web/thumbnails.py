"""Thumbnails: turns photos inside allowed folders, and no other file, into small JPEGs."""

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
from deepterms.web.decoder import SandboxedDecoder

__all__ = ["Thumbnail", "Thumbnails"]

SIDE = 480  # pixels of the longer side; the page shows them at half this size or less
MAX_CACHED = 2_000  # thumbnails, about 30 kB each
MAX_FILE = 256 << 20  # bytes


@dataclass(frozen=True)
class Thumbnail:
    """One thumbnail.

    Attributes:
        jpeg: the encoded image.
        etag: changes whenever the file changes.
    """

    jpeg: bytes
    etag: str


class Thumbnails:
    """Thumbnails of the photos that documents were indexed from.

    Args:
        roots: the allowed folders. A file that lies outside them once all links are resolved is never opened.
        decoder: decodes the files.

    Raises:
        InvalidInput: a root is not a folder.
    """

    def __init__(self, roots: Iterable[str | Path], decoder: SandboxedDecoder) -> None:
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)
        for root in self.roots:
            if not root.is_dir():
                raise InvalidInput(f"{root} is not a folder; pass folders that contain the photos of the index")
        self._decoder = decoder
        self._cached: OrderedDict[str, Thumbnail] = OrderedDict()
        self._lock = threading.Lock()

    def thumbnail(self, id: str, metadata: Mapping[str, Any]) -> Thumbnail | None:
        """Make the thumbnail of a document's photo, or take it from the cache.

        Args:
            id: of the document.
            metadata: of the document; ``path`` is the file, absolute or relative to a root. Without it, the id is used.

        Returns:
            The thumbnail, or None if there is no such file inside the roots.

        Raises:
            UnreadableImage: the file cannot be decoded within the limits.
        """
        for path in self._resolve(str(metadata.get("path", id))):
            opened = self._open(path)
            if opened is None:
                continue
            with os.fdopen(opened, "rb") as file:
                status = os.fstat(opened)
                etag = hashlib.sha256(f"{path}\0{status.st_mtime_ns}\0{status.st_size}".encode()).hexdigest()[:32]
                with self._lock:
                    if etag in self._cached:
                        self._cached.move_to_end(etag)
                        return self._cached[etag]
                if status.st_size > MAX_FILE:
                    raise UnreadableImage(
                        "the image", f"the file has {status.st_size:,} bytes; the limit is {MAX_FILE:,}"
                    )
                content = file.read()
            made = Thumbnail(self._decoder.thumbnail(content, side=SIDE), etag)
            with self._lock:
                self._cached[etag] = made
                while len(self._cached) > MAX_CACHED:
                    self._cached.popitem(last=False)
            return made
        return None

    def _resolve(self, named: str) -> Iterator[str]:
        """The paths inside the roots that a name may refer to, with all links resolved."""
        if "\0" in named or not named:
            return
        given = Path(named)
        for candidate in [given] if given.is_absolute() else [*(root / given for root in self.roots), given]:
            path = os.path.realpath(candidate)
            if self._is_allowed(path):
                yield path

    def _is_allowed(self, path: str) -> bool:
        return any(root in Path(path).parents for root in self.roots)

    def _open(self, path: str) -> int | None:
        """Open a regular file; None if there is none, or if a link on its path changed in the meantime."""
        try:
            # Non-blocking: opening a named pipe would wait forever.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError):
            return None
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not regular or not self._is_allowed(_path_of(descriptor, path)):
            os.close(descriptor)
            return None
        return descriptor


def _path_of(descriptor: int, path: str) -> str:
    """The current path of an open file: a folder on it may have become a link since `realpath` resolved it."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # not Linux
        return os.path.realpath(path)
