"""Folders of embeddings as clip-retrieval writes them over img2dataset, read like a feature store.

    img_emb/img_emb_0.npy           float16 or float32 (n, D)
    metadata/metadata_0.parquet     n rows: image_path, caption, and what else img2dataset knew: url, key, width…
    img_emb/img_emb_1.npy …

A row's id is its `key`, else its `image_path`, else the number of the file and of the row: `0/17`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepterms.errors import FeatureStoreError, InvalidInput
from deepterms.features.store import FeatureBatch, memory_mapped, parquet_batches, parquet_rows

__all__ = ["EmbeddingFolder"]

FEATURES, METADATA = "img_emb", "metadata"


@dataclass(frozen=True, eq=False)
class EmbeddingFolder:
    """Embeddings on the disk, in the order of their files; `batches` as of a `FeatureStore`.

    Attributes:
        folder: where they are.
        dimensions: D.
        spec: None: nothing says what made them.
        parts: the files of each part: descriptors, metadata, and n.
    """

    folder: Path
    dimensions: int
    spec: Mapping[str, Any] | None
    parts: tuple[tuple[Path, Path, int], ...]

    @classmethod
    def open(cls, folder: str | Path) -> EmbeddingFolder:
        """Opens a folder for reading.

        Args:
            folder: that holds `img_emb` and `metadata`.

        Raises:
            FeatureStoreError: it does not, a file is missing or damaged, or files do not belong together.
        """
        folder = Path(folder)
        names = {
            suffix: {path.stem.rpartition("_")[2]: path for path in (folder / kind).glob(f"{kind}_*{suffix}")}
            for kind, suffix in ((FEATURES, ".npy"), (METADATA, ".parquet"))
        }
        numbers = sorted(names[".npy"].keys() | names[".parquet"].keys(), key=lambda name: (len(name), name))
        if not numbers:
            raise FeatureStoreError(f"{folder} holds no {FEATURES}/{FEATURES}_0.npy")
        parts = []
        dimensions = 0
        for number in numbers:
            if lacking := [suffix for suffix, found in names.items() if number not in found]:
                raise FeatureStoreError(f"{folder} lacks the {lacking[0]} file of part {number}; copy it again")
            features_path, items_path = names[".npy"][number], names[".parquet"][number]
            array, rows = memory_mapped(features_path), parquet_rows(items_path)
            dimensions = dimensions or (array.shape[-1] if array.ndim else 0)
            if array.dtype.kind != "f" or array.shape != (rows, dimensions):
                raise FeatureStoreError(
                    f"{features_path} holds {array.dtype} {array.shape}; expected floats ({rows}, {dimensions})"
                )
            parts.append((features_path, items_path, rows))
        return cls(folder, dimensions, None, tuple(parts))

    @staticmethod
    def found_in(folder: str | Path) -> bool:
        """Whether a folder looks like one."""
        return (Path(folder) / FEATURES).is_dir() and (Path(folder) / METADATA).is_dir()

    def __len__(self) -> int:
        return sum(rows for _, _, rows in self.parts)

    def batches(self, *, rows: int = 1024) -> Iterator[FeatureBatch]:
        """Iterates over all rows in order; neither descriptors nor metadata are ever read as a whole.

        Args:
            rows: in a batch at most; a batch never spans two parts.

        Yields:
            ids, float32 (n, D), and items: the columns of the metadata that hold something, `image_path` as `path`.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for features_path, items_path, count in self.parts:
            array, start = memory_mapped(features_path), 0
            number = features_path.stem.rpartition("_")[2]
            for found in parquet_batches(items_path, rows=rows):
                features: NDArray[np.float32] = array[start : start + len(found)].astype(np.float32, copy=False)
                ids = [_id(row, f"{number}/{at}") for at, row in enumerate(found, start)]
                yield FeatureBatch(ids, features, [_item(row) for row in found])
                start += len(found)
            if start != count:
                raise FeatureStoreError(f"{items_path} is damaged: it announces {count} rows and holds {start}")


def _id(row: Mapping[str, Any], place: str) -> str:
    return str(row.get("key") or row.get("image_path") or place)


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {"image_path": "path"}
    return {names.get(name, name): _plain(value) for name, value in row.items() if _plain(value) is not None}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; None for one that says nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
