"""Pivot chunks: splits pivots into chunks that fit into documents, and assembles them again."""

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
    """Count the pivots (D,) per chunk; at least 1, whatever their length."""
    return max(1, CHUNK_BYTES // (2 * dimensions))


def count_chunks(count: int, rows: int) -> int:
    """Count the chunks of `rows` pivots that `count` pivots need."""
    return -(-count // rows)


def split_into_chunks(pivots: Pivots, *, rows: int) -> Iterator[tuple[int, str]]:
    """Yield (number of the first row, base64 of little-endian float16) for each chunk, in order."""
    features = pivots.features.astype("<f2", copy=False)
    for start in range(0, len(features), rows):
        yield start, base64.b64encode(features[start : start + rows].data).decode("ascii")


class ChunkedPivots:
    """Pivots that are assembled chunk by chunk into one preallocated array, so that memory holds them only once.

    Args:
        described: the result of their `spec()`.
        rows: pivots per chunk.

    Raises:
        InvalidInput: the description is invalid, or the pivots do not fit into memory.
    """

    def __init__(self, described: Mapping[str, Any], *, rows: int) -> None:
        try:
            self.checksum, metric = str(described["checksum"]), described["metric"]
            count, dimensions = int(described["count"]), int(described["dimensions"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{dict(described)!r} does not describe pivots: {error!r}") from error
        if min(count, dimensions, rows) < 1 or metric not in ("cosine", "l2"):
            raise InvalidInput(f"{dict(described)!r} in chunks of {rows} rows does not describe pivots")
        self.rows = rows
        self._metric = metric
        try:
            self._features: NDArray[np.float16] = np.empty((count, dimensions), dtype="<f2")
        except (MemoryError, ValueError) as error:
            raise InvalidInput(f"{count} pivots of {dimensions} dimensions do not fit into memory: {error}") from error

    def __len__(self) -> int:
        """Count the chunks."""
        return count_chunks(len(self._features), self.rows)

    def fill(self, number: int, text: str) -> None:
        """Insert one chunk.

        Args:
            number: the number of the chunk, from 0.
            text: its content.

        Raises:
            InvalidInput: the text is not base64, or contains another number of rows.
        """
        place = self._features[number * self.rows : (number + 1) * self.rows]
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise InvalidInput(f"chunk {number} is not base64: {error}") from error
        if len(content) != place.nbytes:
            raise InvalidInput(f"chunk {number} has {len(content)} bytes; expected {place.nbytes}")
        place[:] = np.frombuffer(content, dtype="<f2").reshape(place.shape)

    def assemble(self, *, reach: Reach | None = None) -> Pivots:
        """Return the pivots, once every chunk has been inserted.

        Args:
            reach: their reach, if it is known.

        Raises:
            InvalidInput: their checksum is not the one in the description.
        """
        pivots = Pivots(self._features, metric=self._metric, reach=reach)
        if pivots.checksum != self.checksum:
            raise InvalidInput(f"their checksum is {pivots.checksum}; expected {self.checksum}")
        return pivots
