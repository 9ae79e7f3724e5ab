"""Ids, metadata and revisions in any container are lists, by position, or rejected in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepterms as dt
from deepterms.errors import InvalidInput
from deepterms.schema.aligned import align_documents, align_metadata, read_id, read_id_pieces
from tests.containers import FEATURES, IDS, METADATA

ENCODER = dt.DeepPermutation(4, top_k=2)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)  # numpy drops a last \0
NUMBERS = [
    [7, 8],
    (7, 8),
    np.array([7, 8]),
    pd.Series([7, 8], index=[1, 0]),
    range(7, 9),
    pl.Series([7, 8]),
]


def rows_of(count: int) -> Any:
    """Return N different directions of whole numbers that every type of the containers holds exactly."""
    rows = np.random.default_rng(count).integers(-8, 9, size=(count, 4)).astype(np.float32)
    rows[:, 0] = 9
    return rows


@given(
    ids=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        min_size=2,
        max_size=9,
        unique=True,
    ),
    how=st.tuples(st.sampled_from(sorted(IDS)), st.sampled_from(sorted(FEATURES)), st.sampled_from(sorted(METADATA))),
)
def test_every_id_keeps_its_own_vector_and_metadata(ids: list[str], how: tuple[str, str, str]) -> None:
    rows = rows_of(len(ids))
    metadata = [{"number": number, "name": f"n{number}"} for number in range(len(ids))]
    index = dt.MemoryIndex(ENCODER)
    given = (IDS[how[0]](ids), FEATURES[how[1]](rows), METADATA[how[2]](metadata))
    assert index.add(*given) == dt.WriteReport(len(ids)), how
    for number, id in enumerate(ids):
        document = index.get(id)
        assert document is not None
        assert type(document.id) is str
        assert document.metadata == metadata[number], how
        assert document.vector is not None
        np.testing.assert_allclose(document.vector, rows[number] / np.linalg.norm(rows[number]), rtol=1e-6)
    swapped = list(reversed(metadata))
    assert index.update_metadata(IDS[how[0]](ids), METADATA[how[2]](swapped)) == dt.WriteReport(len(ids))
    assert [dict(index.get(id).metadata) for id in ids] == swapped  # type: ignore[union-attr]
    assert index.reconcile(IDS[how[0]](ids)) == dt.Reconciliation(len(ids))
    terms = ENCODER.encode(rows)
    assert index.add_terms(IDS[how[0]](ids), terms, METADATA[how[2]](metadata)) == dt.WriteReport(len(ids))
    assert [dict(index.get(id).metadata) for id in ids] == metadata  # type: ignore[union-attr]
    assert index.delete(IDS[how[0]](ids)) == dt.WriteReport(len(ids))
    assert index.count() == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("ab", "one text"),
        (b"ab", "one text"),
        (None, "ids is None"),
        (7, "ids is 7"),
        ({"a", "b"}, "has no order"),
        ({"a": 1, "b": 2}, "ids is a dict"),
        (pd.DataFrame({"id": ["a", "b"]}), "one column"),
        (pl.DataFrame({"id": ["a", "b"]}), "one column"),
        (pa.table({"id": ["a", "b"]}), "one column"),
        (np.array([["a"], ["b"]]), "one dimension"),
        (np.ma.masked_array(["a", "b"], mask=[False, True]), "masked array"),
        (np.array("a"), "one dimension"),
        ([b"a", b"b"], "of type bytes, such as b'a'"),
        (np.array([b"a", b"b"]), "of type bytes"),
        (np.array([1.0, 2.0]), "of type float, such as 1.0"),
        (pd.Series([1, None]), "of type float"),
        ([True, False], "of type bool"),
        ([("a",), ("b",)], "of type tuple"),
        (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), "of type tuple"),
    ],
)
def test_ids_that_are_no_aligned_texts_are_rejected_in_one_sentence(ids: Any, message: str) -> None:
    index = dt.MemoryIndex(ENCODER)
    with pytest.raises(InvalidInput, match=message):
        index.add(ids, rows_of(2))
    with pytest.raises(InvalidInput, match=message):
        index.update_metadata(ids, [{}, {}])
    with pytest.raises(InvalidInput, match=message):
        index.add_terms(ids, ENCODER.encode(rows_of(2)))


@pytest.mark.parametrize(
    "ids", [[7, 8], (7, 8), np.array([7, 8]), pd.Series([7, 8], index=[1, 0]), range(7, 9), pl.Series([7, 8])]
)
def test_integers_are_ids_by_their_digits(ids: Any) -> None:
    index = dt.MemoryIndex(ENCODER)
    assert index.add(ids, rows_of(2)) == dt.WriteReport(2)
    same: list[Any] = [7, np.int64(7), "7", np.str_("7")]
    for id in same:
        assert (document := index.get(id)) is not None
        assert document.id == "7"
        assert index.search_by_id(id).ids == ["8"]
        assert index.explain(id, rows_of(2)[0]).id == "7"
    assert index.reconcile(ids).equal
    assert index.delete(ids) == dt.WriteReport(2)
    assert index.count() == 0


def test_an_id_that_no_document_can_have_is_reported_alone() -> None:
    index = dt.MemoryIndex(ENCODER)
    wrong = [None, b"a", 1.5, True, "", "x" * 513, "\ud800", pd.NA, ("a",)]
    report = index.add(["good", *wrong], np.repeat(rows_of(1), 10, axis=0))
    assert report.succeeded == 1
    assert [failure.id for failure in report.failed] == list(map(str, wrong))
    report = index.delete(["good", *wrong])
    assert (report.succeeded, len(report.failed)) == (1, 9)
    for id in wrong:
        assert index.add([id], rows_of(1)).failed[0].id == str(id)
        assert index.delete([id]).succeeded == 0
        for call in (
            index.get,
            index.search_by_id,
            lambda id: index.explain(id, rows_of(1)),
            lambda id: index.reconcile(["a", id]),
        ):
            with pytest.raises(InvalidInput, match="the id of a document cannot be"):
                call(id)
    missing: list[Any] = [None, None]  # in a stream, they must not stop it
    assert [failure.id for failure in index.add(missing, rows_of(2)).failed] == ["None", "None"]


def test_ids_without_order_may_be_a_set_and_are_read_in_pieces() -> None:
    index = dt.MemoryIndex(ENCODER)
    index.add(["a", "b", "c"], rows_of(3))
    assert index.reconcile({"a", "b", "c"}).equal
    assert index.reconcile({"a": 1, "b": 2, "c": 3}).equal
    assert index.delete({"a", "b"}) == dt.WriteReport(2)
    read: list[int] = []

    def stream() -> Any:
        for number in range(10):
            read.append(number)
            yield f"id{number}"

    pieces = read_id_pieces(stream(), 4)
    assert next(pieces) == ["id0", "id1", "id2", "id3"]
    assert len(read) == 4
    assert [len(piece) for piece in pieces] == [4, 2]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"year": 2018}, "one dict; expected one mapping per id"),
        ({"a": {"year": 2018}, "b": {}}, "one dict; expected one mapping per id"),
        ("ab", "one text"),
        ([1, 2], "rows of type int"),
        ([("year", 2018), ("year", 2019)], "rows of type tuple"),
        (pd.Series([2018, 2019]), "rows of type int"),
        (pd.DataFrame([[1], [2]]), "the field name 0"),
        (pd.DataFrame([[1, 2], [1, 2]], columns=["a", "a"]), "several columns 'a'"),
        (pd.DataFrame({"": [1, 2]}), "the field name ''"),
        (pa.table([[1, 2], [1, 2]], names=["a", "a"]), "several columns 'a'"),
        (pl.DataFrame({"a": [1, 2]}).lazy(), "no table in memory"),
        (5, "metadata is 5"),
        ([{}], "got 2 ids, 2 features, 1 metadata|got 2 ids, 1 metadata"),
        (pd.DataFrame({"year": [1, 2, 3]}), "3 metadata"),
        (({} for _ in range(3)), "3 metadata"),
    ],
)
def test_metadata_that_is_no_row_per_id_is_rejected_in_one_sentence(metadata: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        dt.MemoryIndex(ENCODER).add(["a", "b"], rows_of(2), metadata)


def test_update_metadata_rejects_the_same() -> None:
    with pytest.raises(InvalidInput, match="one dict; expected one mapping per id"):
        dt.MemoryIndex(ENCODER).update_metadata(["a"], {"year": 2018})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="got 2 ids, 1 metadata"):
        align_metadata(["a", "b"], [{}])


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(
            {
                "year": pd.array([2018, None, 2020], dtype="Int64"),
                "size": [1.5, np.nan, 2.5],
                "name": ["x", None, "z"],
                "day": pd.to_datetime(["2018-01-02", None, "2018-01-04"]),
            },
            index=[2, 0, 1],
        ),
        pl.DataFrame({"year": [2018, None, 2020], "size": [1.5, None, 2.5], "name": ["x", None, "z"]}).with_columns(
            day=pl.Series(["2018-01-02T00:00:00", None, "2018-01-04T00:00:00"])
        ),
        pa.table(
            {
                "year": [2018, None, 2020],
                "size": [1.5, None, 2.5],
                "name": ["x", None, "z"],
                "day": ["2018-01-02T00:00:00", None, "2018-01-04T00:00:00"],
            }
        ),
    ],
    ids=lambda table: type(table).__module__,
)
def test_missing_cells_of_a_table_are_left_out(table: Any) -> None:
    index = dt.MemoryIndex(ENCODER)
    assert index.add(["a", "b", "c"], rows_of(3), table) == dt.WriteReport(3)
    first, second, third = (dict(index.get(id).metadata) for id in "abc")  # type: ignore[union-attr]
    assert first == {"year": 2018, "size": 1.5, "name": "x", "day": "2018-01-02T00:00:00"}
    assert second == {}
    assert third["year"] == 2020


def test_rows_without_metadata_may_be_missing() -> None:
    index = dt.MemoryIndex(ENCODER)
    for metadata in (
        [{"x": 1}, None],
        pd.Series([{"x": 1}, None]),
        pd.Series([{"x": 1}, np.nan]),
        pl.Series([{"x": 1}, None]),
    ):
        assert index.add(["a", "b"], rows_of(2), metadata) == dt.WriteReport(2)
        assert [dict(index.get(id).metadata) for id in "ab"] == [{"x": 1}, {}]  # type: ignore[union-attr]
    report = index.add(["a", "b"], rows_of(2), [{"x": 1}, 5])  # type: ignore[list-item]
    assert [(failure.id, failure.reason) for failure in report.failed] == [
        ("b", "metadata is a int; expected a mapping")
    ]


def test_revisions_are_aligned_too() -> None:
    first, second = dt.Revision(1, 1), dt.Revision(2, 1)
    for revisions in (
        [first, None, second],
        pd.Series([first, None, second], index=[2, 0, 1]),
        iter([first, None, second]),
    ):
        assert align_documents(["a", "b", "c"], rows_of(3), None, revisions).revisions == [first, None, second]
    with pytest.raises(InvalidInput, match=r"revisions\[1\] is \(1, 1\); expected a Revision"):
        align_documents(["a", "b"], rows_of(2), None, [None, (1, 1)])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="2 ids, 2 features, 1 revisions"):
        align_documents(["a", "b"], rows_of(2), None, [first])


def test_terms_are_term_frequencies() -> None:
    for wrong in (ENCODER.encode(rows_of(1)).matrix, rows_of(1), [{"t1": 2}]):
        with pytest.raises(InvalidInput, match="expected TermFrequencies"):
            dt.MemoryIndex(ENCODER).add_terms(["a"], wrong)  # type: ignore[arg-type]


def test_nothing_is_nothing() -> None:
    index = dt.MemoryIndex(ENCODER)
    nothing: list[Any] = [[], np.empty((0, 4)), pd.DataFrame(), iter([])]
    for features in nothing:
        assert index.add([], features) == dt.WriteReport(0)
    with pytest.raises(InvalidInput, match="got 0 ids, 2 features"):
        index.add([], rows_of(2))
    assert index.delete([]) == dt.WriteReport(0)
    assert read_id("a") == "a"
