"""Native comparison gives the hits and cosines of the reference: all documents of the lists, and int8 vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepterms as dt
from deepterms.encoders.encoder import Encoder
from deepterms.encoders.pivots.pairs import PivotPairs
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.search import widening
from tests.congruence.test_searches import DIMENSIONS, DOCUMENTS, IDS, METADATA, QUERIES, ROWS, Store, assert_equal

ENCODERS: dict[str, Encoder] = {
    "pivots": dt.PivotPermutation(Pivots(ROWS[:24]), top_k=3, query_top_k=6),
    "pairs": PivotPairs(Pivots(ROWS[:12]), top_k=4, query_top_k=5),
}
STORE = Store(IDS, ROWS)
ONE_HOT = np.eye(1, DIMENSIONS, dtype=np.float32)[0]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"k": 3},
    {"k": DOCUMENTS},
    {"k": 60, "min_score": 0.1, "fields": ["year", "place.city"]},
    {"k": 60, "effort": 0.4},
    {"k": 60, "rerank": 5},  # only says that documents are compared: natively, all of them are
    {"k": 20, "filter": {"term": {"metadata.year": 2003}}},
    {"k": 20, "filter": {"range": {"metadata.year": {"gte": 2001}}}},
    {"k": 20, "filter": {"term": {"metadata.year": 1}}},
    {"k": 10, "rerank": 0},
    {"k": 10, "rerank_from": STORE, "rerank": 30},
]


def filled(
    elasticsearch: Any, name: str, encoder: Encoder, shards: int = 1
) -> tuple[dt.SurrogateIndex, dt.MemoryIndex]:
    dt.deploy(elasticsearch)
    index = dt.SurrogateIndex.create(elasticsearch, name, encoder=encoder, shards=shards, replicas=0)
    assert (index.compare, index.vector_type) == ("native", "int8")
    reference = dt.MemoryIndex(encoder, compare="native")
    for target in (index, reference):
        assert target.add(IDS, ROWS, METADATA) == dt.WriteReport(DOCUMENTS)
        target.refresh()
    return index, reference


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shards", [1, 3])
def test_native_searches_equal_the_reference(
    elasticsearch: Any, unique_name: str, name: str, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widening, "MAX_COMPARED", 3)  # so that one filter widens the query and another compares all
    index, reference = filled(elasticsearch, unique_name, ENCODERS[name], shards)
    for options in OPTIONS:
        for query in (QUERIES[0], ROWS[12], -ROWS[12], ONE_HOT):
            assert_equal(index.search(query, **options), reference.search(query, **options))
        many = [target.search_many(QUERIES, **options) for target in (index, reference)]
        for found, expected in zip(*many, strict=True):
            assert_equal(found, expected)
    assert_equal(index.search_by_id("d007", k=20), reference.search_by_id("d007", k=20))
    stored, kept = (target.get("d007") for target in (index, reference))
    assert stored is not None
    assert kept is not None
    assert np.array_equal(stored.vector, kept.vector)  # type: ignore[arg-type]
    checked = index.verify(sample=60)
    assert checked.ok
    assert checked.cosines > 500
    for target in (index, reference):
        assert target.update_metadata(["d001"], [{"year": 1}]).succeeded == 1
        assert target.delete(IDS[::4]).failed == ()
        assert target.add(IDS[1::8], ROWS[2::8], METADATA[1::8]).failed == ()
        target.refresh()
    for query in QUERIES:
        assert_equal(index.search(query, k=120), reference.search(query, k=120))
        assert_equal(
            index.search(query, filter={"term": {"metadata.year": 1}}),
            reference.search(query, filter={"term": {"metadata.year": 1}}),
        )


@pytest.mark.parametrize("shards", [1, 3])
def test_documents_without_a_vector_come_last(elasticsearch: Any, unique_name: str, shards: int) -> None:
    encoder = ENCODERS["pivots"]
    index, reference = filled(elasticsearch, unique_name, encoder, shards)
    for target in (index, reference):
        assert target.add_terms(["bare"], encoder.encode(ROWS[12:13]), [{"year": 2003}]).succeeded == 1
        target.refresh()
    for options in ({"k": 200}, {"k": 200, "filter": {"term": {"metadata.year": 2003}}}):
        found, expected = (target.search(ROWS[12], **options) for target in (index, reference))
        assert_equal(found, expected)
        assert found[-1].id == "bare"
        assert found[-1].score == pytest.approx(-1)
    assert "bare" not in index.search(ROWS[12], k=5).ids
    assert_equal(index.search_by_id("bare", k=5), reference.search_by_id("bare", k=5))
    assert index.get("bare").vector is None  # type: ignore[union-attr]
    assert index.verify(sample=121).ok


def test_all_of_a_list_is_compared(elasticsearch: Any, unique_name: str) -> None:
    """Votes are equal for most documents, so ten candidates by votes would miss the nearest."""
    encoder = dt.PivotPermutation(Pivots(ROWS[:4]), top_k=1, query_top_k=2)
    index, _ = filled(elasticsearch, unique_name, encoder)
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    words = encoder.encode(ROWS).matrix
    for query in QUERIES:
        shared = np.flatnonzero((words @ encoder.encode_queries(query[np.newaxis]).matrix.T).toarray()[:, 0])
        cosines = unit[shared] @ query / np.linalg.norm(query)
        found = index.search(query, k=10, rerank=10)
        assert [hit.score for hit in found] == pytest.approx(np.sort(cosines)[::-1][:10], abs=4e-3)  # int8
