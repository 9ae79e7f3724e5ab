"""Turn a folder of photographs in the INRIA Holidays layout into queries and relevance judgements."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepterms.errors import InvalidInput
from deepterms.evaluation.collections.judgements import Judgements

__all__ = ["COLLECTION_FILE", "JudgedCollection", "holidays_judgements", "read_holidays"]

COLLECTION_FILE = "collection.json"
"""Written by `build_photos`: which queries have natural views, and what the folder was built from."""

# In Holidays, the first four digits are the group and the last two the view: 100000.jpg, 100001.jpg, 100002.jpg.
_NAME = re.compile(r"(?P<group>\d{4})(?P<view>\d{2})")


@dataclass(frozen=True)
class JudgedCollection:
    """A folder of photographs, which of them are queries, and the relevant photographs for each query.

    Attributes:
        folder: with one `<id>.jpg` per photograph.
        ids: six digits each, ascending: four for the group, two for the view.
        queries: the first view of every group with at least two views, ascending.
        qrels: query id → id of every other view in its group → 1. The query itself is left out: see `without_self`.
        natural_queries: queries whose other views are separate photographs, not derived from the query; empty if the
            folder does not record them.
        left_out: why photographs are missing, one sentence each, as recorded by `build_photos`.
        titles: id → what the photograph shows, where recorded.
    """

    folder: Path
    ids: tuple[str, ...]
    queries: tuple[str, ...]
    qrels: Mapping[str, Mapping[str, int]]
    natural_queries: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """Files of the photographs, in the order of `ids`."""
        return [self.path(image_id) for image_id in self.ids]

    @property
    def judgements(self) -> Judgements:
        """Judgements under the INRIA Holidays protocol: see `holidays_judgements`."""
        return holidays_judgements(self.ids)

    @property
    def natural_qrels(self) -> dict[str, Mapping[str, int]]:
        """`qrels` restricted to the natural queries."""
        return {query: self.qrels[query] for query in self.natural_queries}

    def path(self, image_id: str) -> Path:
        """Return the file of one photograph."""
        return self.folder / f"{image_id}.jpg"


def read_holidays(folder: str | Path) -> JudgedCollection:
    """Read a collection from its file names.

    INRIA Holidays itself has 1,491 photographs in 500 groups; view 00 of each group is the query. Other file types in
    the folder are ignored, but a .jpg with any other name is rejected, because no query could judge it.

    Args:
        folder: contains files named GGGGVV.jpg, as written by `build_photos`.

    Raises:
        InvalidInput: the folder does not exist, has no photographs, or has a .jpg with any other name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; a collection is a folder of photographs named GGGGVV.jpg")
    ids = sorted(path.stem for path in folder.glob("*.jpg"))
    if not ids:
        raise InvalidInput(f"{folder} has no .jpg file; a collection is a folder of photographs named GGGGVV.jpg")
    try:
        groups = _group_by_scene(ids)
    except InvalidInput as error:
        raise InvalidInput(f"{folder}: {error}") from error
    # Ids are sorted, so the first id of a group is its lowest view.
    qrels = {query: dict.fromkeys(others, 1) for query, *others in groups if others}
    notes = _read_notes(folder / COLLECTION_FILE)
    return JudgedCollection(
        folder=folder,
        ids=tuple(ids),
        queries=tuple(qrels),
        qrels=qrels,
        natural_queries=tuple(query for query in notes.get("natural_queries", ()) if query in qrels),
        left_out=tuple(notes.get("left_out", ())),
        titles=dict(notes.get("titles", {})),
    )


def holidays_judgements(ids: Iterable[str]) -> Judgements:
    """Derive INRIA Holidays judgements from the names of the photographs.

    The first view of a group is its query, the other views are relevant, and the query is removed from its own ranking.
    AP uses the trapezoidal rule, as in the authors' holidays_map.py.

    Args:
        ids: names GGGGVV, with or without the suffix .jpg.

    Raises:
        InvalidInput: an id has any other form, or no group has two views.
    """
    groups = [group for group in _group_by_scene(ids) if len(group) > 1]
    return Judgements(
        relevant={query: frozenset(others) for query, *others in groups},
        junk={query: frozenset([query]) for query, *_ in groups},
        averaging="trapezoids",
    )


def _group_by_scene(ids: Iterable[str]) -> list[list[str]]:
    """Group ids by their first four digits, in ascending order."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for image_id in sorted(ids):
        name = _NAME.fullmatch(image_id.removesuffix(".jpg"))
        if name is None:
            raise InvalidInput(
                f"{image_id} is not an INRIA Holidays name: expected six digits, "
                "four for the group and two for the view, such as 100001"
            )
        groups[name["group"]].append(image_id)
    return list(groups.values())


def _read_notes(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        notes = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}; delete the folder and build it again") from error
    if not isinstance(notes, dict):
        raise InvalidInput(f"{path} is damaged: expected a JSON object; delete the folder and build it again")
    return notes
