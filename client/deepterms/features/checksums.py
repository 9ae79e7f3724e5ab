"""Checksums of a shard: CRC-32 of its array file and of each column of its items, in the footer of the items file.

They detect damage by disks, copies and crashes, and files that were exchanged, not forgery. CRC-32 because zlib
computes it at twice the speed of BLAKE2b, about 1 GB/s on one core, so that reading a store stays bound by the disk.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepterms.errors import FeatureStoreError

__all__ = ["KEY", "Checksums", "describe_remedy", "hash_array_file", "hash_column"]

KEY = b"deepterms-checksums"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Checksums:
    """What the files of a shard contained when they were written.

    Attributes:
        shard: its number.
        array: CRC-32 of the `.npy` file.
        columns: name of a column of the items → CRC-32 of its values.
    """

    shard: int
    array: int
    columns: Mapping[str, int]

    @classmethod
    def parse(cls, metadata: Mapping[bytes, bytes] | None, path: Path) -> Checksums | None:
        """Read the checksums from the metadata of a Parquet file; None if it has none.

        Raises:
            FeatureStoreError: they are damaged.
        """
        if metadata is None or KEY not in metadata:
            return None
        try:
            content = json.loads(metadata[KEY])
            return cls(int(content["shard"]), int(content["array"]), {**content["columns"]})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise FeatureStoreError(
                f"{path} is damaged: its checksums cannot be read. {describe_remedy(path)}"
            ) from error

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the metadata for the Parquet file."""
        content = {"shard": self.shard, "array": self.array, "columns": dict(self.columns)}
        return {KEY: json.dumps(content).encode()}

    def check_array(self, path: Path) -> None:
        """Raise if the array file has changed.

        Raises:
            FeatureStoreError: it has.
        """
        try:
            found = hash_array_file(path)
        except OSError as error:
            raise FeatureStoreError(f"{path} cannot be read: {error}. {describe_remedy(path)}") from error
        if found != self.array:
            raise FeatureStoreError(
                f"{path} is damaged: its checksum is {found:08x}, and was {self.array:08x} when it was written. "
                f"{describe_remedy(path)}"
            )

    def check_columns(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise if the columns of some rows, which are all rows of the items file, have changed.

        Raises:
            FeatureStoreError: they have.
        """
        for name in rows[0] if rows else ():
            if hash_column([row[name] for row in rows]) != self.columns.get(name):
                raise FeatureStoreError(
                    f"{path} is damaged: the checksum of its column {name!r} is wrong. {describe_remedy(path)}"
                )


def hash_array_file(path: Path) -> int:
    """Compute the CRC-32 of a file."""
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def hash_column(values: Sequence[Any]) -> int:
    """Compute the CRC-32 of texts or numbers, some of which may be None."""
    return zlib.crc32("\0".join("" if value is None else str(value) for value in values).encode())


def describe_remedy(path: Path) -> str:
    """Say what to do about a damaged file of a shard."""
    return (
        f"The other shards are not affected. Copy the file again, or drop the shard with "
        f"deepterms.features.discard_damaged({str(path.parent)!r}) and describe its photos again"
    )
