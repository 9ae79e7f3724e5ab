"""Folders of embeddings that clip-retrieval made from an img2dataset download, read like a feature store.

    img_emb/img_emb_0.npy           float16 or float32 (n, D)
    metadata/metadata_0.parquet     n rows: image_path, caption, and whatever img2dataset recorded: url, key, width…
    img_emb/img_emb_1.npy …

A row's id is its `key`, else its `image_path`, else the numbers of its file and row: `0/17`.
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
from deepterms.features.store import FeatureBatch, count_parquet_rows, map_array, read_parquet_batches

__all__ = ["EmbeddingFolder"]

FEATURES, METADATA = "img_emb", "metadata"


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
            FeatureStoreError: a file is missing or damaged, or the files do not match each other.
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
            ids, float32 (n, D), and items: the non-empty columns of the metadata, with `image_path` renamed to `path`.
        """
        if rows < 1:
            raise InvalidInput(f"rows is {rows}; expected 1 or more")
        for features_path, items_path, count in self.parts:
            array, start = map_array(features_path), 0
            number = features_path.stem.rpartition("_")[2]
            for found in read_parquet_batches(items_path, rows=rows):
                features: NDArray[np.float32] = array[start : start + len(found)].astype(np.float32, copy=False)
                ids = [_choose_id(row, f"{number}/{at}") for at, row in enumerate(found, start)]
                yield FeatureBatch(ids, features, [_to_item(row) for row in found])
                start += len(found)
            if start != count:
                raise FeatureStoreError(
                    f"{items_path} is damaged: its footer announces {count} rows, but it contains {start}"
                )


def _choose_id(row: Mapping[str, Any], place: str) -> str:
    return str(row.get("key") or row.get("image_path") or place)


def _to_item(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {"image_path": "path"}
    return {names.get(name, name): plain for name, value in row.items() if (plain := _to_json_value(value)) is not None}


def _to_json_value(value: Any) -> Any:
    """Convert a value to what JSON can represent; None for NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
