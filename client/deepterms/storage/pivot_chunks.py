"""Pivots in pieces that a document can hold, and whole again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.encoders.pivots.pivots import Pivots, Reach
from deepterms.errors import InvalidInput

__all__ = ["ChunkedPivots", "count_chunks", "count_rows_per_chunk", "split_into_chunks"]

# 1 MB once it is base64.
CHUNK_BYTES = 750_000


def count_rows_per_chunk(dimensions: int) -> int:
    """How many pivots (D,) one chunk holds: 1 at least, whatever their length."""
    return max(1, CHUNK_BYTES // (2 * dimensions))


def count_chunks(count: int, rows: int) -> int:
    """How many chunks of `rows` pivots it takes to hold `count` of them."""
    return -(-count // rows)


def split_into_chunks(pivots: Pivots, *, rows: int) -> Iterator[tuple[int, str]]:
    """(number of the first row, base64 of little-endian float16) of each chunk, in order."""
    features = pivots.features.astype("<f2", copy=False)
    for start in range(0, len(features), rows):
        yield start, base64.b64encode(features[start : start + rows].data).decode("ascii")


class ChunkedPivots:
    """Pivots on their way back: room for all of them, filled chunk by chunk, so that nothing is held twice.

    Args:
        described: what their `spec()` said.
        rows: pivots a chunk.

    Raises:
        InvalidInput: what is described are no pivots.
    """

    def __init__(self, described: Mapping[str, Any], *, rows: int) -> None:
        try:
            self.checksum, metric = str(described["checksum"]), described["metric"]
            count, dimensions = int(described["count"]), int(described["dimensions"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{dict(described)!r} describes no pivots: {error!r}") from error
        if min(count, dimensions, rows) < 1 or metric not in ("cosine", "l2"):
            raise InvalidInput(f"{dict(described)!r} in chunks of {rows} rows describes no pivots")
        self.rows = rows
        self._metric = metric
        try:
            self._features: NDArray[np.float16] = np.empty((count, dimensions), dtype="<f2")
        except (MemoryError, ValueError) as error:
            raise InvalidInput(f"{count} pivots of {dimensions} dimensions do not fit into memory: {error}") from error

    def __len__(self) -> int:
        """How many chunks there are."""
        return count_chunks(len(self._features), self.rows)

    def fill(self, number: int, text: str) -> None:
        """Put one chunk in its place.

        Raises:
            InvalidInput: it is not base64 of so many rows.
        """
        place = self._features[number * self.rows : (number + 1) * self.rows]
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise InvalidInput(f"chunk {number} is not base64: {error}") from error
        if len(content) != place.nbytes:
            raise InvalidInput(f"chunk {number} has {len(content)} bytes; expected {place.nbytes}")
        place[:] = np.frombuffer(content, dtype="<f2").reshape(place.shape)

    def whole(self, *, reach: Reach | None = None) -> Pivots:
        """The pivots, once every chunk is in its place.

        Args:
            reach: that they have, if it is known.

        Raises:
            InvalidInput: they are not the ones that were described.
        """
        pivots = Pivots(self._features, metric=self._metric, reach=reach)
        if pivots.checksum != self.checksum:
            raise InvalidInput(f"their checksum is {pivots.checksum}; expected {self.checksum}")
        return pivots
