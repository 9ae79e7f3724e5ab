"""A folder of photographs in the layout of INRIA Holidays into queries and relevance judgements."""

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

__all__ = ["COLLECTION_FILE", "Collection", "holidays_judgements", "read_holidays"]

COLLECTION_FILE = "collection.json"
"""Beside the photographs of `build_photos`: which queries have natural views, and what the folder was made from."""

# Holidays: the first four digits name the group, the last two the view: 100000.jpg, 100001.jpg, 100002.jpg.
_NAME = re.compile(r"(?P<group>\d{4})(?P<view>\d{2})")


@dataclass(frozen=True)
class Collection:
    """Photographs, which of them are queries, and what is relevant to each query.

    Attributes:
        folder: where the photographs are, `<id>.jpg` each.
        ids: six digits each, ascending: four of the group, two of the view.
        queries: the first view of every group that has another one, ascending.
        qrels: query id → id of every other view of its group → 1. The query itself is not in it: see `without_self`.
        natural_queries: the queries whose other views are photographs of their own, not pictures made from the
            query's; empty where the folder does not say.
        left_out: why some photographs are missing, as `build_photos` noted it, one sentence each.
        titles: id → what a photograph shows, as far as the folder says.
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
        """The photographs, in the order of `ids`."""
        return [self.path(image_id) for image_id in self.ids]

    @property
    def judgements(self) -> Judgements:
        """The protocol of INRIA Holidays: see `holidays_judgements`."""
        return holidays_judgements(self.ids)

    @property
    def natural_qrels(self) -> dict[str, Mapping[str, int]]:
        """`qrels` of the natural queries alone."""
        return {query: self.qrels[query] for query in self.natural_queries}

    def path(self, image_id: str) -> Path:
        """Where one photograph is."""
        return self.folder / f"{image_id}.jpg"


def read_holidays(folder: str | Path) -> Collection:
    """Reads a collection from the names of its files.

    INRIA Holidays itself has 1,491 photographs in 500 groups; view 00 of each is the query. Other files beside the
    photographs do not count, but a .jpg of another name is refused: it would be a photograph that no query can judge.

    Args:
        folder: a folder of files named GGGGVV.jpg, such as `build_photos` makes.

    Raises:
        InvalidInput: no such folder, no photographs of such names in it, or others among them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; a collection is a folder of photographs named GGGGVV.jpg")
    ids = sorted(path.stem for path in folder.glob("*.jpg"))
    if not ids:
        raise InvalidInput(f"{folder} has no .jpg file; a collection is a folder of photographs named GGGGVV.jpg")
    try:
        groups = _groups(ids)
    except InvalidInput as error:
        raise InvalidInput(f"{folder}: {error}") from error
    qrels = {
        query: dict.fromkeys(others, 1) for query, *others in groups if others
    }  # ids are sorted, so the first one of a group is its lowest view
    notes = _read_notes(folder / COLLECTION_FILE)
    return Collection(
        folder=folder,
        ids=tuple(ids),
        queries=tuple(qrels),
        qrels=qrels,
        natural_queries=tuple(query for query in notes.get("natural_queries", ()) if query in qrels),
        left_out=tuple(notes.get("left_out", ())),
        titles=dict(notes.get("titles", {})),
    )


def holidays_judgements(ids: Iterable[str]) -> Judgements:
    """The protocol of INRIA Holidays from the names of its photographs alone.

    The first view of a group is its query, the others are right, and the query itself is taken out of its ranking. AP
    is taken by trapezoids, as the authors' holidays_map.py does.

    Args:
        ids: names GGGGVV, with or without the suffix .jpg.

    Raises:
        InvalidInput: an id is not such a name, or no group has two views.
    """
    groups = [group for group in _groups(ids) if len(group) > 1]
    return Judgements(
        relevant={query: frozenset(others) for query, *others in groups},
        junk={query: frozenset([query]) for query, *_ in groups},
        averaging="trapezoids",
    )


def _groups(ids: Iterable[str]) -> list[list[str]]:
    """The ids of each group, ascending."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for image_id in sorted(ids):
        name = _NAME.fullmatch(image_id.removesuffix(".jpg"))
        if name is None:
            raise InvalidInput(
                f"{image_id} is not named as in INRIA Holidays: expected six digits, "
                "four of the group and two of the view, such as 100001"
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
        raise InvalidInput(f"{path} is damaged: expected an object; delete the folder and build it again")
    return notes
