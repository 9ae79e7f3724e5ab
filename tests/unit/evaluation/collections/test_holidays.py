from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepterms.errors import InvalidInput
from deepterms.evaluation import read_holidays


def _photographs(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_the_first_view_of_a_group_is_its_query(tmp_path: Path) -> None:
    _photographs(tmp_path, "100001.jpg", "100000.jpg", "100100.jpg", "100101.jpg", "100102.jpg", "README.txt")
    collection = read_holidays(tmp_path)
    assert collection.ids == ("100000", "100001", "100100", "100101", "100102")
    assert collection.queries == ("100000", "100100")
    assert collection.qrels == {"100000": {"100001": 1}, "100100": {"100101": 1, "100102": 1}}
    assert collection.natural_queries == ()
    assert collection.paths[1] == tmp_path / "100001.jpg"


def test_a_single_photograph_is_not_a_query(tmp_path: Path) -> None:
    collection = read_holidays(_photographs(tmp_path, "100000.jpg", "100001.jpg", "200000.jpg"))
    assert collection.queries == ("100000",)
    assert "200000" in collection.ids


def test_the_lowest_view_is_the_query_if_view_00_is_missing(tmp_path: Path) -> None:
    assert read_holidays(_photographs(tmp_path, "100002.jpg", "100001.jpg")).qrels == {"100001": {"100002": 1}}


def test_natural_queries_come_from_the_folder_notes(tmp_path: Path) -> None:
    _photographs(tmp_path, "100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg", "100200.jpg")
    # 100200 has since lost its other view, so nothing is relevant to it.
    notes = {"natural_queries": ["100100", "100200"], "left_out": ["zoo: gone"]}
    (tmp_path / "collection.json").write_text(json.dumps(notes))
    collection = read_holidays(str(tmp_path))
    assert collection.natural_queries == ("100100",)
    assert collection.natural_qrels == {"100100": {"100101": 1}}
    assert collection.left_out == ("zoo: gone",)


@pytest.mark.parametrize("name", ["holiday.jpg", "10000.jpg", "1000000.jpg", "10000a.jpg"])
def test_a_photograph_with_any_other_name_is_rejected(name: str, tmp_path: Path) -> None:
    _photographs(tmp_path, "100000.jpg", name)
    with pytest.raises(InvalidInput, match="not an INRIA Holidays name"):
        read_holidays(tmp_path)


def test_a_folder_without_photographs_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no \.jpg file"):
        read_holidays(tmp_path)
    with pytest.raises(InvalidInput, match="not a folder"):
        read_holidays(tmp_path / "missing")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_notes_are_reported(content: str, tmp_path: Path) -> None:
    _photographs(tmp_path, "100000.jpg", "100001.jpg")
    (tmp_path / "collection.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"collection\.json is damaged"):
        read_holidays(tmp_path)
