"""Whatever containers and values callers pass, an engine holds, finds and rejects the same as MemoryIndex."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import deepterms as dt
from deepterms.errors import InvalidInput
from tests.containers import FEATURES, IDS, METADATA, shuffled_labels

DIMENSIONS = 8
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=4)


class Colour(Enum):
    RED = "red"


def rows_of(count: int) -> NDArray[np.float32]:
    """Return N different directions of whole numbers that every type of the containers holds exactly."""
    rows = np.random.default_rng(count).integers(-8, 9, size=(count, DIMENSIONS)).astype(np.float32)
    rows[:, 0] = 9
    return rows


@pytest.fixture
def indices(cluster: Any, unique_name: str) -> Iterator[tuple[dt.SurrogateIndex, dt.MemoryIndex]]:
    """An empty index in a cluster and the reference."""
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    yield index, dt.MemoryIndex(ENCODER)
    index.drop()


BY_ID: list[Callable[[Any, Any], Any]] = [
    lambda index, id: index.get(id) is None,
    lambda index, id: index.search_by_id(id, k=1).ids,
    lambda index, id: index.explain(id, rows_of(1)[0]).score,
    lambda index, id: index.reconcile(["good", id, 8]),
    lambda index, id: index.delete([id, "gone"]),
]
BY_FILTER: list[Callable[[Any, Any], Any]] = [
    lambda index, filter: index.count(filter=filter),
    lambda index, filter: index.search(rows_of(4)[0], filter=filter).ids,
    lambda index, filter: [hits.ids for hits in index.search_many(rows_of(4), filter=filter)],
    lambda index, filter: index.search_by_id(0, filter=filter).ids,
    lambda index, filter: [hit.id for hit in index.search_all(rows_of(4)[0], filter=filter)],
    lambda index, filter: index.delete_by_filter(filter),
]


def read(index: Any, ids: list[str]) -> list[tuple[str, list[float], dict[str, Any]] | None]:
    documents = [index.get(id) for id in ids]
    return [None if found is None else (found.id, found.vector.tolist(), dict(found.metadata)) for found in documents]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    count=st.integers(2, 6),
    how=st.tuples(st.sampled_from(sorted(IDS)), st.sampled_from(sorted(FEATURES)), st.sampled_from(sorted(METADATA))),
)
def test_every_id_keeps_its_own_vector_and_metadata(
    indices: tuple[dt.SurrogateIndex, dt.MemoryIndex], count: int, how: tuple[str, str, str]
) -> None:
    ids = [f"é{number}" for number in range(count)]
    rows = rows_of(count)
    metadata = [{"number": number, "name": f"n{number}"} for number in range(count)]
    for index in indices:
        assert index.add(IDS[how[0]](ids), FEATURES[how[1]](rows), METADATA[how[2]](metadata)) == dt.WriteReport(count)
        index.refresh()
        assert [hits[0].id for hits in index.search_many(FEATURES[how[1]](rows), k=1)] == ids, how
    expected = read(indices[1], ids)
    assert read(indices[0], ids) == expected
    assert [found and found[2] for found in expected] == metadata, how
    for index in indices:
        changed = METADATA[how[2]](list(reversed(metadata)))
        assert index.update_metadata(IDS[how[0]](ids), changed) == dt.WriteReport(count)
        assert index.reconcile(IDS[how[0]](ids)).equal
        index.refresh()
        assert [found and found[2] for found in read(index, ids)] == list(reversed(metadata)), how
        assert index.delete(IDS[how[0]](ids)) == dt.WriteReport(count)
        index.refresh()
        assert index.count() == 0


def test_streams_are_aligned_by_position_too(indices: tuple[dt.SurrogateIndex, dt.MemoryIndex]) -> None:
    index, _ = indices
    count = 2_500  # three bulk requests
    ids, rows = [f"d{number}" for number in range(count)], rows_of(count)
    labels = shuffled_labels(count)
    metadata = pd.DataFrame({"number": range(count), "seen": [None, 1.0] * (count // 2)}, index=labels)
    series, table = pd.Series(ids, index=labels), pd.DataFrame(rows, index=labels)
    halves = [(series[:1_250], table[:1_250], metadata[:1_250]), (series[1_250:], table[1_250:], metadata[1_250:])]
    assert index.add_batches(halves) == dt.WriteReport(count)
    assert index.add_terms(series[:10], ENCODER.encode(table[:10]), metadata[:10]) == dt.WriteReport(10)
    index.refresh()
    for number in (0, 999, 1_000, 1_249, 1_250, 2_499):
        document = index.get(f"d{number}")
        assert document is not None
        assert document.metadata == ({"number": number, "seen": 1.0} if number % 2 else {"number": number})
    revisions = pd.Series([document.revision for id in ids[:3] if (document := index.get(id))], index=[2, 0, 1])
    assert index.add(series[:3], table[:3], metadata[:3], revisions=revisions) == dt.WriteReport(3)
    for wrong in ([(ids[:2], rows[:2])], [ids], [5], [None]):
        with pytest.raises(InvalidInput, match="a batch is"):
            index.add_batches(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="got 1000 ids, 1500 features"):
        index.add_batches([(ids[:1_000], rows[:1_500], None)])
    assert index.reconcile(id for id in ids).equal


VALUES: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": np.inf,
    "surrogate": "\ud800",
    "integer": 2**63,
    "inexact": 2**63 - 1,
    "bytes": b"a",
    "set": {1},
    "names": {"a": {"": 1}},
    "blank": {" ": 1},
    "dots": {"a..b": 1},
    "leading": {".a": 1},
    "key": {True: 1},
    "depth": {".".join("a" * 20): 1},
    "arrays": np.ones([1] * 21),
    "table": pd.DataFrame({"a": [1]}),
    "numpy": np.float32(0.5),
    "decimal": Decimal("19.99"),
    "date": datetime.date(2018, 1, 2),
    "time": pd.Timestamp("2018-01-02T03:04:05+09:00"),
    "missing": pd.NaT,
    "enum": Colour.RED,
    "series": pl.Series([1, 2]),
    "arrow": pa.array(["a"]),
    "largest": 2**53,
    "trailing": {"a.": 1, "b.c": 2},
    "nested": {".".join("a" * 18): 1},
    "zeros": np.zeros([1] * 20),
}


def test_a_bad_value_loses_only_its_document(indices: tuple[dt.SurrogateIndex, dt.MemoryIndex]) -> None:
    ids = list(VALUES)
    # Each in a field of its own, since fields of several types conflict in an engine.
    metadata = [{f"of_{name}": value, "good": True} for name, value in VALUES.items()]
    fine = [{"good": True} for _ in ids]
    reports = []
    for index in indices:
        reports.append(index.add(ids, rows_of(len(ids)), metadata))
        index.refresh()
        assert index.add(ids, rows_of(len(ids)), fine) == dt.WriteReport(len(ids))
        index.refresh()
        assert index.update_metadata(ids, metadata) == reports[-1]
        index.refresh()
    assert reports[0] == reports[1]
    assert {failure.id for failure in reports[0].failed} == set(ids[: ids.index("numpy")])
    assert all(f"of_{failure.id}" in failure.reason for failure in reports[0].failed)
    assert read(indices[0], ids) == read(indices[1], ids)


def test_ids_are_read_alike(indices: tuple[dt.SurrogateIndex, dt.MemoryIndex]) -> None:
    wrong: list[Any] = [None, b"a", 1.5, True, "", "x" * 513, "\ud800"]
    outcomes = []
    for index in indices:
        seen: list[Any] = [index.add(["good", 7, np.int64(8), *wrong], rows_of(10))]
        index.refresh()
        for id in (7, "7", np.str_("8"), *wrong):
            for call in BY_ID:
                try:
                    seen.append(call(index, id))
                except InvalidInput as error:
                    seen.append(str(error))
            index.add([7, 8], rows_of(2))
            index.refresh()
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0][0].succeeded, len(outcomes[0][0].failed)) == (3, 7)


FILTERS: list[Any] = [
    {"term": {"metadata.x": np.int64(2)}},
    {"term": {"metadata.x": Decimal("2")}},
    {"term": {"metadata.colour": Colour.RED}},
    {"term": {"metadata.day": datetime.date(2018, 1, 3)}},
    {"terms": {"metadata.x": {3, 1}}},
    {"terms": {"metadata.x": (1, 2)}},
    {"terms": {"metadata.x": np.array([1, 2])}},
    {"terms": {"metadata.x": pd.Series([1, 2], index=[1, 0])}},
    {"terms": {"metadata.x": set()}},
    {"range": {"metadata.x": {"gte": np.float32(1.5), "lt": None}}},
    {"ids": {"values": {1, 2}}},
    [{"range": {"metadata.x": {"gte": 1}}}, {"range": {"metadata.x": {"lt": 3}}}],
    ({"term": {"metadata.x": 1}},),
    {"bool": {"must": None, "filter": ({"term": {"metadata.x": 1}},), "must_not": {"term": {"metadata.x": 2}}}},
    {},
    [],
    "metadata.x:1",
    [[{"match_all": {}}]],
    {"match_all": {}, "exists": {"field": "metadata.x"}},
    {"term": {"metadata.x": None}},
    {"prefix": {"metadata.colour": {"value": pd.NA}}},
    {"terms": {"metadata.x": [1, None]}},
    {"term": {"metadata.x": 2**63}},
    {"range": {"metadata.x": {"gte": float("nan")}}},
    {"term": {"metadata.colour": "\ud800"}},
    {"term": {"metadata.\ud800": 1}},
    {"term": {"metadata.colour": b"red"}},
    {"term": {"metadata.colour": 1j}},
]


@pytest.mark.parametrize("filter", FILTERS, ids=lambda filter: repr(filter)[:60])
def test_filters_are_read_alike_by_every_method(indices: tuple[dt.SurrogateIndex, dt.MemoryIndex], filter: Any) -> None:
    rows = rows_of(4)
    metadata = [{"x": number, "colour": "red", "day": f"2018-01-0{number + 1}"} for number in range(4)]
    outcomes = []
    for index in indices:
        index.add(range(4), rows, metadata)
        index.refresh()
        seen: list[Any] = []
        for call in BY_FILTER:
            try:
                seen.append(call(index, filter))
            except InvalidInput as error:
                seen.append(str(error))
        index.refresh()
        outcomes.append([*seen, index.count()])
    assert outcomes[0] == outcomes[1]
    rejected = [outcome for outcome in outcomes[0] if isinstance(outcome, str)]
    assert len(rejected) in (0, 6)
    assert len(set(rejected)) <= 1
