"""Pivot cache: keeps pivots in memory while they are used, and on disk in files named by their checksum.

A file contains rows of little-endian float16 and nothing else; shape and metric are in the spec of the encoder.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from deepterms.cache import cache_folder
from deepterms.encoders.pivots.pivots import Pivots

__all__ = ["PivotCache"]

logger = logging.getLogger("deepterms")


class PivotCache:
    """Pivots by checksum. Several processes can share a folder; an unreadable or damaged file is a cache miss.

    Args:
        folder: the folder of the files, created on the first write; by default, `pivots` in `cache_folder()`.
    """

    # Weak references: only the encoders that use them keep hundreds of megabytes alive.
    _held: ClassVar[WeakValueDictionary[str, Pivots]] = WeakValueDictionary()
    # Checksum → lock, so that two threads that open one index load its pivots once.
    _loading: ClassVar[dict[str, Lock]] = {}

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "pivots" if folder is None else folder

    def build_path(self, checksum: str) -> Path:
        """Build the path of the file for these pivots, which may not exist."""
        return self.folder / f"{checksum}.f16"

    def get(self, described: Mapping[str, Any], load: Callable[[], Pivots]) -> Pivots:
        """Return the pivots of a spec from memory, from their file, or from `load`, in this order, and cache them.

        Args:
            described: the result of their `spec()`, checked as by `encoder_from_spec`.
            load: reads them from the cluster.
        """
        checksum = str(described.get("checksum"))
        with self._loading.setdefault(checksum, Lock()):
            held = self._held.get(checksum)
            if held is not None:
                return held
            pivots = self._read(checksum, described)
            if pivots is None:
                pivots = load()
                self._write(pivots)
            self.hold(pivots)
            return pivots

    @classmethod
    def hold(cls, pivots: Pivots) -> None:
        """Cache pivots in memory for as long as they are used."""
        cls._held[pivots.checksum] = pivots

    def _read(self, checksum: str, described: Mapping[str, Any]) -> Pivots | None:
        path = self.build_path(checksum)
        try:
            shape = (int(described["count"]), int(described["dimensions"]))
            if path.stat().st_size != 2 * shape[0] * shape[1]:
                raise ValueError(f"it has {path.stat().st_size} bytes; expected {2 * shape[0] * shape[1]}")
            pivots = Pivots(np.fromfile(path, dtype="<f2").reshape(shape), metric=described["metric"])
            if pivots.checksum != checksum:
                raise ValueError(f"its checksum is {pivots.checksum}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("ignoring %s, which is replaced if possible: %s", path, error)
            return None
        return pivots

    def _write(self, pivots: Pivots) -> None:
        path = self.build_path(pivots.checksum)
        scratch: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Renamed into place, so that concurrent readers see either a complete file or none.
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix="writing-", delete=False) as file:
                scratch = Path(file.name)
                pivots.features.astype("<f2", copy=False).tofile(file)
            scratch.replace(path)
        except OSError as error:  # disk full or read-only: the next process reads from the cluster again
            logger.warning("could not cache pivots in %s: %s", path, error)
            if scratch is not None:
                scratch.unlink(missing_ok=True)
