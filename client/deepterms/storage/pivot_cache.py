"""Pivots that this machine had before: in this process, and in files named by their checksum.

A file holds rows of little-endian float16 and nothing else; shape and metric are in the spec of the encoder.
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
    """Pivots by checksum. Several processes may use one folder at once; whatever is wrong with a file, it is a miss.

    Args:
        folder: of the files, made when the first is written; `pivots` in `cache_folder()` where not given.
    """

    # Held by whoever encodes with them; nobody else keeps hundreds of megabytes alive.
    _held: ClassVar[WeakValueDictionary[str, Pivots]] = WeakValueDictionary()
    # By checksum, so that two threads that open one index do not both load it.
    _loading: ClassVar[dict[str, Lock]] = {}

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "pivots" if folder is None else folder

    def path(self, checksum: str) -> Path:
        """The file of some pivots, whether it is there or not."""
        return self.folder / f"{checksum}.f16"

    def get(self, described: Mapping[str, Any], load: Callable[[], Pivots]) -> Pivots:
        """The pivots that a spec describes: from this process, else from the file, else loaded, and then kept.

        Args:
            described: what their `spec()` said, checked as `encoder_from_spec` does.
            load: reads them from where they belong.
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
        """Remember pivots that are in memory anyway, as long as somebody uses them."""
        cls._held[pivots.checksum] = pivots

    def _read(self, checksum: str, described: Mapping[str, Any]) -> Pivots | None:
        path = self.path(checksum)
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
            logger.warning("%s is not used, and replaced if possible: %s", path, error)
            return None
        return pivots

    def _write(self, pivots: Pivots) -> None:
        path = self.path(pivots.checksum)
        scratch: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Renamed into place: whoever reads at the same time sees the whole file or none.
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix="writing-", delete=False) as file:
                scratch = Path(file.name)
                pivots.features.astype("<f2", copy=False).tofile(file)
            scratch.replace(path)
        except OSError as error:  # no place, or no right to write: the next to open reads from the cluster again
            logger.warning("pivots are not kept in %s: %s", path, error)
            if scratch is not None:
                scratch.unlink(missing_ok=True)
