"""A `.npy` file and a list of ids, as other programs write them, into a feature store of one shard."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepterms.errors import FeatureStoreError
from deepterms.features.file_formats import UNREADABLE_JSON, map_array
from deepterms.features.store import FeatureStore, Shard

__all__ = ["read_npy"]


def read_npy(features: str | Path, ids: str | Path) -> FeatureStore:
    """Read descriptors that other programs made, as a store.

    Args:
        features: a `.npy` file of floats (N, D), read as float32.
        ids: a text file with one id per line, or a `.json` file with a list of ids, in UTF-8. A byte order mark, CRLF
            and empty lines at the end are accepted in both.

    Returns:
        A store with one shard, without spec and metadata.

    Raises:
        FeatureStoreError: a file cannot be read, or the files do not match. For a wrong id the message names the line
            of the text file, or the element of the list.
    """
    features, ids = Path(features), Path(ids)
    is_json = ids.suffix.lower() == ".json"
    listed = _read_json(ids) if is_json else _read_lines(ids)
    _check_unique(ids, listed, "element" if is_json else "line")
    array = map_array(features)
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != len(listed):
        raise FeatureStoreError(
            f"{features} contains {array.dtype} {array.shape}; expected floats ({len(listed)}, D) for the ids in {ids}"
        )
    return FeatureStore(features.parent, array.shape[1], None, (Shard(features, len(listed), given_ids=tuple(listed)),))


def _read_text(ids: Path) -> str:
    """Read UTF-8, with LF for every line end, as `Path.read_text` does."""
    try:
        content = ids.read_bytes()
    except OSError as error:
        raise FeatureStoreError(f"the ids in {ids} cannot be read: {error}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FeatureStoreError(f"the ids in {ids} cannot be read: the file is UTF-16; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FeatureStoreError(
            f"the ids in {ids} cannot be read: line {line} is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error


def _read_lines(ids: Path) -> list[str]:
    lines = _read_text(ids).split("\n")
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise FeatureStoreError(f"line {number} of {ids} is empty; expected one id per line")
        if line != line.strip("\ufeff").strip():  # byte order marks remain where files were concatenated
            raise FeatureStoreError(
                f"line {number} of {ids} is {line!r}; expected no blanks or byte order marks around an id. Remove "
                "them, or pass a .json file, whose ids are taken literally"
            )
    return lines


def _read_json(ids: Path) -> list[str]:
    try:
        listed: Any = json.loads(_read_text(ids))
    except UNREADABLE_JSON as error:
        raise FeatureStoreError(f"the ids in {ids} cannot be read: {error}") from error
    if not isinstance(listed, list):
        raise FeatureStoreError(f'{ids} is not a list of ids; expected JSON such as ["a", "b"]')
    for number, item_id in enumerate(listed, 1):
        if not isinstance(item_id, str) or not item_id:
            raise FeatureStoreError(
                f"{ids} is not a list of ids: element {number} is {item_id!r:.80}; expected a text that is not empty"
            )
    return listed


def _check_unique(ids: Path, listed: Sequence[str], unit: str) -> None:
    first: dict[str, int] = {}
    for number, item_id in enumerate(listed, 1):
        if (earlier := first.setdefault(item_id, number)) != number:
            raise FeatureStoreError(
                f"{ids} contains duplicate ids: {unit} {number} repeats {item_id!r} of {unit} {earlier}; expected a "
                "different one per row"
            )
