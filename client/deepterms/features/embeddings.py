"""Folders of embeddings that clip-retrieval made from an img2dataset download, read like a feature store.

    img_emb/img_emb_0.npy           float16 or float32 (n, D)
    metadata/metadata_0.parquet     n rows: image_path, caption, and whatever img2dataset recorded: url, key, width…
    img_emb/img_emb_1.npy …

A row's id is its `key`, else its `image_path`, else the numbers of its file and row: `0/17`. Two rows with the same id
are rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput
from deepterms.features.file_formats import count_parquet_rows, map_array, read_parquet_batches
from deepterms.features.metadata_rows import check_columns, choose_id, to_item
from deepterms.features.store import FeatureBatch

__all__ = ["EmbeddingFolder"]

FEATURES, METADATA = "img_emb", "metadata"
MAX_NAMED = 5


@dataclass(frozen=True, eq=False)
class EmbeddingFolder:
    """Embeddings on disk, in the order of their files; `batches` works like that of a `FeatureStore`.

    Attributes:
        folder: the folder.
        dimensions: D.
        spec: always None, because the folder does not record what made the embeddings.
        parts: per part, the file of descriptors, the file of metadata, and n.
    """

    folder: Path
    dimensions: int
    spec: Mapping[str, Any] | None
    parts: tuple[tuple[Path, Path, int], ...]

    @classmethod
    def open(cls, folder: str | Path) -> EmbeddingFolder:
        """Open a folder for reading.

        Args:
            folder: the parent of `img_emb` and `metadata`.

        Raises:
            FeatureStoreError: a file is missing or damaged, the files do not match each other, two rows have the same
                id, or a column contains bytes.
        """
        folder = Path(folder)
        names = {
            suffix: {path.stem.rpartition("_")[2]: path for path in (folder / kind).glob(f"{kind}_*{suffix}")}
            for kind, suffix in ((FEATURES, ".npy"), (METADATA, ".parquet"))
        }
        numbers = sorted(names[".npy"].keys() | names[".parquet"].keys(), key=lambda name: (len(name), name))
        if not numbers:
            raise FeatureStoreError(f"{folder} contains no {FEATURES}/{FEATURES}_0.npy")
        parts = []
        dimensions = 0
        for number in numbers:
            if lacking := [suffix for suffix, found in names.items() if number not in found]:
                raise FeatureStoreError(f"{folder} lacks the {lacking[0]} file of part {number}; copy the folder again")
            features_path, items_path = names[".npy"][number], names[".parquet"][number]
            array, rows = map_array(features_path), count_parquet_rows(items_path)
            dimensions = dimensions or (array.shape[-1] if array.ndim else 0)
            if array.dtype.kind != "f" or array.shape != (rows, dimensions):
                raise FeatureStoreError(
                    f"{features_path} contains {array.dtype} {array.shape}; expected floats ({rows}, {dimensions})"
                )
            parts.append((features_path, items_path, rows))
        _check_ids(parts, [check_columns(items_path) for _, items_path, _ in parts])
        return cls(folder, dimensions, None, tuple(parts))

    @staticmethod
    def found_in(folder: str | Path) -> bool:
        """Whether a folder has the layout of clip-retrieval."""
        return (Path(folder) / FEATURES).is_dir() and (Path(folder) / METADATA).is_dir()

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self.parts)

    def batches(self, *, rows: int = 1024) -> Iterator[FeatureBatch]:
        """Iterate over all rows in order, without ever reading a whole file.

        Args:
            rows: maximum number of rows per batch; a batch never spans two parts.

        Yields:
            ids, float32 (n, D), and items: the non-empty columns of the metadata as JSON can represent them, with
            `image_path` renamed to `path`.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for features_path, items_path, count in self.parts:
            array, start = map_array(features_path), 0
            number = _number_of(features_path)
            for found in read_parquet_batches(items_path, rows=rows):
                features: NDArray[np.float32] = array[start : start + len(found)].astype(np.float32, copy=False)
                ids = [choose_id(row, f"{number}/{at}") for at, row in enumerate(found, start)]
                yield FeatureBatch(ids, features, [to_item(row) for row in found])
                start += len(found)
            if start != count:
                raise FeatureStoreError(
                    f"{items_path} is damaged: its footer announces {count} rows, but it contains {start}"
                )


def _check_ids(parts: Sequence[tuple[Path, Path, int]], columns: Sequence[list[str]]) -> None:
    """Reject folders in which two rows have the same id, of which an index would keep only one.

    Only hashes are kept, 8 bytes per row; if some are equal, the files are read again to find out whose they are.
    """

    def read_ids() -> Iterator[tuple[str, Path, int]]:
        for (features_path, items_path, count), names in zip(parts, columns, strict=True):
            number = _number_of(features_path)
            if not names:
                yield from ((f"{number}/{at}", items_path, at) for at in range(count))
                continue
            rows = (row for batch in read_parquet_batches(items_path, rows=65536, columns=names) for row in batch)
            for at, row in enumerate(rows):
                yield choose_id(row, f"{number}/{at}"), items_path, at

    def hash_id(item_id: str) -> int:
        return int.from_bytes(hashlib.blake2b(item_id.encode(errors="replace"), digest_size=8).digest(), "little")

    hashes = np.sort(np.fromiter((hash_id(item_id) for item_id, _, _ in read_ids()), dtype=np.uint64))
    repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not repeated:
        return
    places: dict[str, list[str]] = {}
    for item_id, path, at in read_ids():
        if hash_id(item_id) in repeated:
            places.setdefault(item_id, []).append(f"row {at} of {path.name}")
    collisions = [f"{item_id!r} ({', '.join(rows[:3])})" for item_id, rows in places.items() if len(rows) > 1]
    if collisions:
        more = f", and {len(collisions) - MAX_NAMED} more" if len(collisions) > MAX_NAMED else ""
        raise FeatureStoreError(
            f"{parts[0][1].parent.parent} contains duplicate ids: {'; '.join(collisions[:MAX_NAMED])}{more}. "
            "An id is the column key, else image_path; expected a different one per row"
        )


def _number_of(features_path: Path) -> str:
    return features_path.stem.rpartition("_")[2]
