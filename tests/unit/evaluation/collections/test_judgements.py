from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepterms.errors import InvalidInput
from deepterms.evaluation import ArrayFeatures, JudgedFeatures, Judgements, holidays_judgements, read_qrels


def test_holidays_judgements_come_from_ids() -> None:
    judgements = holidays_judgements(
        id for id in ("100001.jpg", "100000.jpg", "100100.jpg", "100101.jpg", "100200.jpg")
    )
    assert judgements.relevant == {"100000.jpg": {"100001.jpg"}, "100100.jpg": {"100101.jpg"}}
    assert judgements.junk == {"100000.jpg": {"100000.jpg"}, "100100.jpg": {"100100.jpg"}}
    assert judgements.averaging == "trapezoids"
    with pytest.raises(InvalidInput, match=r"holiday\.jpg is not an INRIA Holidays name"):
        holidays_judgements(["holiday.jpg"])
    with pytest.raises(InvalidInput, match="no query has a relevant image"):
        holidays_judgements(["100000", "100100"])


def test_trec_qrels_are_read(tmp_path: Path) -> None:
    file = tmp_path / "qrels.txt"
    file.write_text("q 0 a 1\nq 0 b 2\nq 0 c 0\nq 0 d -1\nlonely 0 a 0\nlonely 0 b -1\n")
    judgements = read_qrels(file)
    assert judgements.relevant == {"q": {"a", "b"}}
    assert judgements.junk == {"q": {"d"}}
    assert judgements.qrels == {"q": {"a": 1, "b": 1}}
    file.write_text("q 0 a\n")
    with pytest.raises(InvalidInput, match="expected lines of the form: query 0 id grade"):
        read_qrels(file)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_qrels(tmp_path / "missing")


def test_unusable_judgements_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="'q' has no relevant image"):
        Judgements({"q": frozenset()})
    with pytest.raises(InvalidInput, match="'a' as both relevant and junk"):
        Judgements({"q": frozenset("ab")}, junk={"q": frozenset("a")})


def test_ids_are_resolved_to_rows() -> None:
    features = np.eye(4, 3, dtype=np.float32) + 1
    judgements = Judgements({"q": frozenset("db")}, junk={"q": frozenset({"a", "not described"})})
    collection = JudgedFeatures.from_ids(
        "four",
        judgements,
        ids=list("abcd"),
        features=ArrayFeatures(features),
        queries={"q": np.ones(3, np.float32) * 5},
    )
    assert collection.relevant[0].tolist() == [1, 3]
    assert collection.junk[0].tolist() == [0]
    assert len(collection) == 4
    np.testing.assert_allclose(collection.queries, np.full((1, 3), 3**-0.5), rtol=1e-6)


@pytest.mark.parametrize("rows", [[], [1, 0], [1, 1], [-1], [2]])
def test_unsorted_or_invalid_rows_are_rejected(rows: list[int]) -> None:
    features, none = np.ones((2, 3), np.float32), np.empty(0, np.int64)
    wrong = np.array(rows, dtype=np.int64)
    with pytest.raises(
        InvalidInput, match=r"the relevant rows of query 0 start with .*at least 1 in ascending order, each below 2"
    ):
        JudgedFeatures("two", features[:1], ArrayFeatures(features), (wrong,), (none,))
    if rows:
        with pytest.raises(InvalidInput, match=r"the junk rows of query 0 start with .*ascending"):
            JudgedFeatures("two", features[:1], ArrayFeatures(features), (np.array([0]),), (wrong,))


def test_missing_descriptors_are_reported() -> None:
    features = ArrayFeatures(np.ones((2, 3), np.float32))
    query = np.ones(3, np.float32)
    judgements = Judgements({"q": frozenset("az")})
    with pytest.raises(InvalidInput, match="1 relevant photographs have no descriptor, starting with 'z'"):
        JudgedFeatures.from_ids("two", judgements, ids=["a", "b"], features=features, queries={"q": query})
    with pytest.raises(InvalidInput, match="1 queries have no descriptor, starting with 'q'"):
        JudgedFeatures.from_ids("two", judgements, ids=["a", "z"], features=features, queries={})
    with pytest.raises(InvalidInput, match="1 ids are duplicates"):
        JudgedFeatures.from_ids("two", judgements, ids=["a", "a"], features=features, queries={"q": query})
    with pytest.raises(InvalidInput, match="queries have 3 dimensions and documents have 2"):
        JudgedFeatures.from_ids(
            "two", judgements, ids=["a", "z"], features=ArrayFeatures(np.ones((2, 2), np.float32)), queries={"q": query}
        )
