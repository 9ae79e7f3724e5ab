"""Every search method gives the hits of the reference: MemoryIndex = OpenSearch = Elasticsearch."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, InvalidInput, RequestRejected
from deepterms.schema.vectors import VectorType, encode_vectors
from deepterms.search.widening import keep_largest_components
from deepterms.terms import codeword

DIMENSIONS = 64
DOCUMENTS = 120
ENCODER = dt.DeepPermutation(DIMENSIONS, top_k=24)


def rows_of(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    rows[3::10] = rows[2::10][: len(rows[3::10])]  # ties
    return rows


ROWS = rows_of(DOCUMENTS, 1)
QUERIES = rows_of(7, 2)
IDS = [f"d{number:03}" for number in range(DOCUMENTS)]
METADATA: list[dict[str, Any]] = [
    {
        "year": 2000 + number % 5,
        "place": {"city": f"c{number % 3}", "at": [{"x": number, "y": 1}, {"y": 2}]},
        "tags": ["a", "b"],
        "empty": {},
    }
    for number in range(DOCUMENTS)
]


class Store:
    """Descriptors by id, with the interface of a FeatureStore."""

    def __init__(self, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
        self.rows = dict(zip(ids, rows, strict=True))

    def features_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        if missing := [id for id in ids if id not in self.rows]:
            raise InvalidInput(f"{len(missing)} ids are not in the store, the first is {missing[0]!r}")
        return np.stack([self.rows[id] for id in ids])


def both(
    cluster: Any, name: str, *, vectors: Any = True, shards: int = 1, layout: str | None = None
) -> tuple[dt.SurrogateIndex, dt.MemoryIndex]:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(
        cluster, name, encoder=ENCODER, store_vectors=vectors, shards=shards, layout=layout, replicas=0
    )
    reference = dt.MemoryIndex(ENCODER, store_vectors=vectors)
    for target in (index, reference):
        assert target.add(IDS, ROWS, metadata=METADATA) == dt.WriteReport(DOCUMENTS)
        target.refresh()
    return index, reference


def pairs(hits: dt.Hits) -> list[tuple[str, float]]:
    """Return ids and scores, with ties ordered by id."""
    return sorted(((hit.id, round(hit.score, 5)) for hit in hits), key=lambda pair: (-pair[1], pair[0]))


def assert_equal(found: dt.Hits, expected: dt.Hits) -> None:
    assert (found.partial, found.error) == (expected.partial, expected.error)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    least = expected[-1].score if expected else 0.0
    # The last group of ties may be truncated at a different id.
    assert {hit.id for hit in found if hit.score > least + 1e-6} == {
        hit.id for hit in expected if hit.score > least + 1e-6
    }


OPTIONS: list[dict[str, Any]] = [
    {"effort": 0.5, "rerank": 0},
    {"effort": 0.01, "rerank": 0},
    {"effort": 0.3, "rerank": DOCUMENTS},
    {"min_score": 2_000.0, "rerank": 0, "k": 60},
    {"min_score": 0.3, "rerank": DOCUMENTS, "k": 60},
    {"min_score": 5.0},
    {"fields": ["year"]},
    {"fields": ["place.city", "place.at.x"], "rerank": 0},
    {"fields": []},
    {"fields": ["tags", "nothing", "place.at", "empty"]},
    {"filter": {"term": {"metadata.year": 2003}}, "effort": 0.7, "min_score": 500, "fields": ["year"], "rerank": 0},
]


@pytest.mark.parametrize("shards", [1, 3])
def test_search_options_equal_the_reference(cluster: Any, unique_name: str, shards: int) -> None:
    index, reference = both(cluster, unique_name, shards=shards)
    for options in OPTIONS:
        for query in (QUERIES[0], ROWS[12]):
            options = {"k": 10, **options}
            found, expected = (target.search(query, **options) for target in (index, reference))
            assert_equal(found, expected)
            metadata = {hit.id: dict(hit.metadata) for hit in reference.search(query, **{**options, "k": DOCUMENTS})}
            for hit in found:
                assert dict(hit.metadata) == metadata[hit.id], options
        many = [target.search_many(QUERIES, **options) for target in (index, reference)]
        for found, expected in zip(*many, strict=True):
            assert_equal(found, expected)
    assert len(index.search(QUERIES[0], min_score=5.0)) == 0
    assert index.search(QUERIES[0], fields=["place.at.x"])[0].metadata.keys() == {"place"}
    by_id = [target.search_by_id("d007", k=5, effort=0.6, fields=["year"]) for target in (index, reference)]
    assert_equal(*by_id)


def ranking(hits: dt.Hits) -> list[tuple[float, set[str]]]:
    """Group a complete ranking by score, best first; scores within 1e-6 count as ties."""
    groups: list[tuple[float, set[str]]] = []
    for hit in hits:
        if groups and groups[-1][0] - hit.score < 1e-6:
            groups[-1][1].add(hit.id)
        else:
            groups.append((hit.score, {hit.id}))
    return groups


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_filtered_rankings_match_the_reference(
    cluster: Any, unique_name: str, vectors: VectorType, shards: int
) -> None:
    dt.deploy(cluster)
    count = 400
    rows, ids = rows_of(count, 3), [f"d{number:03}" for number in range(count)]
    metadata = [{"number": number % 100} for number in range(count)]
    index = dt.SurrogateIndex.create(
        cluster, unique_name, encoder=ENCODER, store_vectors=vectors, shards=shards, replicas=0
    )
    reference = dt.MemoryIndex(ENCODER, store_vectors=vectors)
    for target in (index, reference):
        assert target.add(ids, rows, metadata=metadata).succeeded == count
        target.refresh()
    for kept in (1, 10, 50):  # percent
        filter = {"range": {"metadata.number": {"lt": kept}}}
        assert index.count(filter=filter) == reference.count(filter=filter) == count * kept // 100
        for query in (*QUERIES[:3], rows[12]):
            for rerank in (0, count):
                options: dict[str, Any] = {"k": count, "filter": filter, "rerank": rerank}
                found, expected = (ranking(target.search(query, **options)) for target in (index, reference))
                assert [group for _, group in found] == [group for _, group in expected], options
                assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-6)
                assert sum(len(group) for _, group in found) > 0.8 * count * kept / 100
        many = (target.search_many(QUERIES, k=count, filter=filter, rerank=count) for target in (index, reference))
        for one, other in zip(*many, strict=True):
            assert [group for _, group in ranking(one)] == [group for _, group in ranking(other)]


def test_a_failing_query_leaves_others_intact(cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index, reference = both(cluster, unique_name)
    queries = QUERIES.copy()
    queries[2], queries[4, 0] = 0, np.nan
    sent: list[int] = []
    real = index.cluster.search_many

    def one_broken(bodies: Sequence[Any], *, index: str) -> list[dict[str, Any]]:
        sent.append(len(bodies))
        if len(sent) == 3:
            raise RequestRejected("the cluster refused the request (HTTP 503): busy", status=503)
        # More hits than the engine allows.
        return real([*bodies[:-1], {**bodies[-1], "size": 20_000}] if len(sent) == 1 else bodies, index=index)

    monkeypatch.setattr(index.cluster, "search_many", one_broken)
    monkeypatch.setattr("deepterms.search.searcher.SEARCHES_PER_REQUEST", 2)
    found, expected = index.search_many(queries, k=5), reference.search_many(queries, k=5)
    assert sent == [2, 2, 1]  # seven queries without the two invalid ones
    errors = {row: hits.error for row, hits in enumerate(found) if hits.error}
    assert list(errors) == [1, 2, 4, 6]
    assert "Result window is too large" in errors[1]
    assert "all zero" in errors[2]
    assert "NaN" in errors[4]
    assert "HTTP 503" in errors[6]
    assert all(found[row].partial and not len(found[row]) for row in errors)
    for row in (0, 3, 5):
        assert_equal(found[row], expected[row])
    monkeypatch.setattr(index.cluster, "search_many", real)
    assert index.search_many(np.empty((0, DIMENSIONS))) == []
    with pytest.raises(RequestRejected, match="no such query"):
        index.search_many(QUERIES, filter={"no such query": {}})
    with pytest.raises(InvalidInput, match=r"expected \(N, 64\)"):
        index.search_many(np.ones((2, 3)))


@pytest.mark.parametrize("shards", [1, 3])
def test_pages_return_every_document_once_in_order(cluster: Any, unique_name: str, shards: int) -> None:
    index, reference = both(cluster, unique_name, shards=shards)
    expected = list(reference.search_all(QUERIES[0]))
    assert len(expected) == DOCUMENTS
    assert len({hit.score for hit in expected}) < DOCUMENTS  # some scores tie
    for page in (1, 7, 40, DOCUMENTS, 500):
        found = list(index.search_all(QUERIES[0], page=page))
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in expected], page
        assert [dict(hit.metadata) for hit in found] == [dict(hit.metadata) for hit in expected]
    window = {"index": {"max_result_window": 50}}  # 10,000 by default
    index.cluster.request("PUT", f"/{index.name}/_settings", body=window)
    with pytest.raises(RequestRejected, match="Result window is too large"):
        index.search(QUERIES[0], k=51, rerank=0)
    assert [hit.id for hit in index.search_all(QUERIES[0], page=50)] == [hit.id for hit in expected]
    options: dict[str, Any] = {
        "filter": {"term": {"metadata.year": 2002}},
        "effort": 0.5,
        "min_score": 500.0,
        "fields": ["year"],
    }
    chosen = list(index.search_all(QUERIES[0], page=3, **options))
    assert chosen == list(reference.search_all(QUERIES[0], **options))
    assert 0 < len(chosen) < DOCUMENTS / 5


def test_pages_read_a_snapshot_of_the_index(cluster: Any, unique_name: str) -> None:
    index, reference = both(cluster, unique_name)
    hits = index.search_all(QUERIES[0], page=10)
    first = list(islice(hits, 10))
    index.delete(IDS)
    index.refresh()
    assert index.count() == 0
    assert [hit.id for hit in [*first, *hits]] == [hit.id for hit in reference.search_all(QUERIES[0])]
    assert list(index.search_all(QUERIES[0])) == []


def test_pages_reject_a_document_without_its_own_id(cluster: Any, unique_name: str) -> None:
    index, _ = both(cluster, unique_name)
    index.cluster.request("POST", f"/{index.name}/_doc", body={"terms": {"t1": 3}}, params={"refresh": True})
    one = np.zeros(DIMENSIONS, dtype=np.float32)
    one[1] = 1
    with pytest.raises(ClusterError, match="indexed without an explicit id"):
        list(index.search_all(one))
    with pytest.raises(ClusterError, match="indexed without an explicit id"):
        index.search(one, k=DOCUMENTS, rerank_from=Store(IDS, ROWS))


@pytest.mark.parametrize("layout", ["words", "rank_features"])
def test_explanations_add_up_to_the_engine_score(cluster: Any, unique_name: str, layout: str) -> None:
    index, reference = both(cluster, unique_name, layout=layout)
    scores = {hit.id: hit.score for hit in reference.search(QUERIES[1], k=DOCUMENTS, rerank=0)}
    for id in ("d000", "d012", "d119"):
        found, expected = (target.explain(id, QUERIES[1]) for target in (index, reference))
        assert found == expected
        assert found.agrees
        assert found.score == scores[id] == found.engine_score
        terms = ENCODER.encode(ROWS[int(id[1:])]).to_terms()[0]
        asked = ENCODER.encode_queries(QUERIES[1]).to_terms()[0]
        assert {match.codeword for match in found.matches} == terms.keys() & asked.keys()
        assert all(
            (match.weight, match.frequency) == (asked[match.codeword], terms[match.codeword]) for match in found.matches
        )
        products = [match.product for match in found.matches]
        assert products == sorted(products, reverse=True)
        assert (found.query_codewords, found.document_codewords) == (24, 24)
        cut = index.explain(id, QUERIES[1], effort=0.25)
        assert cut == reference.explain(id, QUERIES[1], effort=0.25)
        assert cut.query_codewords == 6
    assert not replace(index.explain("d000", QUERIES[1]), engine_score=7.0).agrees
    none_shared = np.zeros(DIMENSIONS, dtype=np.float32)
    absent = next(n for n in range(DIMENSIONS) if codeword(n) not in ENCODER.encode(ROWS[0]).to_terms()[0])
    none_shared[absent] = 1
    empty = index.explain("d000", none_shared)
    assert (empty.matches, empty.engine_score, empty.agrees) == ((), 0.0, True)
    for target in (index, reference):
        with pytest.raises(InvalidInput, match="no document 'nobody'"):
            target.explain("nobody", QUERIES[1])


def test_reranking_from_a_feature_store(cluster: Any, unique_name: str) -> None:
    index, reference = both(cluster, unique_name, vectors=False)
    store = Store(IDS, ROWS * 3)
    with_vectors = dt.MemoryIndex(ENCODER)
    with_vectors.add(IDS, ROWS, metadata=METADATA)
    options: dict[str, Any] = {"k": 5, "rerank": DOCUMENTS, "fields": ["year"], "min_score": 0.0}
    for query in (QUERIES[3], ROWS[12]):
        exact = with_vectors.search(query, **options)
        for target in (index, reference):
            found = target.search(query, rerank_from=store, **options)
            assert_equal(found, exact)
            assert all(hit.metadata.keys() == {"year"} for hit in found)
            assert all(hit.metadata["year"] == 2000 + int(hit.id[1:]) % 5 for hit in found)
    for found, expected in zip(
        index.search_many(QUERIES, rerank_from=store), reference.search_many(QUERIES, rerank_from=store), strict=True
    ):
        assert_equal(found, expected)
    by_id = index.search_by_id("d012", k=4, rerank_from=store, rerank=DOCUMENTS)
    assert_equal(by_id, with_vectors.search_by_id("d012", k=4, rerank=DOCUMENTS))
    with pytest.raises(InvalidInput, match="not in the store"):
        index.search(QUERIES[0], rerank_from=Store(IDS[:10], ROWS[:10]))
    named = index.search_many(QUERIES[:2], rerank_from=Store(IDS[:10], ROWS[:10]))
    assert all("not in the store" in hits.error for hits in named)
    with pytest.raises(InvalidInput, match=r"returned descriptors of shape \(120, 3\)"):
        index.search(QUERIES[0], rerank=DOCUMENTS, rerank_from=Store(IDS, ROWS[:, :3]))


@pytest.mark.parametrize("shards", [1, 3])
def test_int8_vectors_equal_the_reference(cluster: Any, unique_name: str, shards: int) -> None:
    index, reference = both(cluster, unique_name, vectors="int8", shards=shards)
    assert dt.SurrogateIndex.open(cluster, unique_name).vector_type == "int8"
    exact = dt.MemoryIndex(ENCODER)
    exact.add(IDS, ROWS)
    for query in (*QUERIES, ROWS[12]):
        found, expected = (target.search(query, k=20, rerank=DOCUMENTS) for target in (index, reference))
        assert_equal(found, expected)
        cosines = {hit.id: hit.score for hit in exact.search(query, k=DOCUMENTS, rerank=DOCUMENTS)}
        assert all(abs(hit.score - cosines[hit.id]) < 0.01 for hit in found)
    for row in (0, 12, 119):
        ours, theirs = (target.get(IDS[row]) for target in (index, reference))
        assert ours is not None
        assert theirs is not None
        assert ours.vector is not None
        assert theirs.vector is not None
        assert ours.vector.tobytes() == theirs.vector.tobytes()
        assert np.linalg.norm(ours.vector) == pytest.approx(1, abs=1e-6)
        assert ours.terms == theirs.terms
    assert_equal(*(target.search_by_id("d005", k=6, rerank=DOCUMENTS) for target in (index, reference)))
    report = index.verify(sample=40)
    assert report.ok
    assert report.cosines > 0


def test_an_int8_index_rejects_other_vectors(cluster: Any, unique_name: str) -> None:
    index, _ = both(cluster, unique_name, vectors="int8")
    raw: list[Any] = ROWS[0].astype(float).tolist()
    for vector in (raw, "AAAAAAAA", "A" * 342 + "=="):
        with pytest.raises(ClusterError, match=r"check-int8-vector.*68 bytes for 64 dimensions"):
            index.cluster.request("PUT", f"/{index.name}/_doc/x", body={"terms": {"t1": 1}, "vector": vector})
    index.cluster.request("PUT", f"/{index.name}/_doc/x", body={"terms": {"t1": 24}}, params={"refresh": True})
    one = np.zeros(DIMENSIONS, dtype=np.float32)
    one[1] = 1
    hits = index.search(one, k=DOCUMENTS, rerank=DOCUMENTS)
    assert (hits[-1].id, hits[-1].score) == ("x", -1)  # ranked last because it has no vector
    with pytest.raises(InvalidInput, match="expected True, False, 'float32' or 'int8'"):
        dt.SurrogateIndex.create(cluster, f"{unique_name}-2", encoder=ENCODER, store_vectors="int4")  # type: ignore[call-overload]


def test_migration_keeps_int8_vectors_unchanged(cluster: Any, unique_name: str) -> None:
    from deepterms.migration import migrate
    from deepterms.schema.layouts import find_layout

    index, _ = both(cluster, unique_name, vectors="int8", layout="words")
    before = index.search(QUERIES[0], k=20)
    migrate(cluster, unique_name, to=find_layout("rank_features"))
    assert_equal(index.search(QUERIES[0], k=20), before)
    assert (index.layout.name, index.vector_type) == ("rank_features", "int8")
    migrate(cluster, unique_name, encoder=dt.DeepPermutation(DIMENSIONS, top_k=12))
    after = dt.SurrogateIndex.open(cluster, unique_name)
    assert (after.encoder.spec()["top_k"], after.vector_type) == (12, "int8")
    assert after.verify(sample=30).ok


def no_vectors(vectors: VectorType) -> dict[str, bytes]:
    """Return field values that are not valid vectors of this index."""
    whole = base64.b64decode(encode_vectors(ROWS[:1], vectors)[0])
    nan = np.full(len(whole) // 4, np.nan, dtype="<f4").tobytes()
    return {"shorter": whole[:-4], "longer": whole + whole[:4], "one": whole[:1], "nan": nan}


@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_an_invalid_vector_counts_as_none(cluster: Any, unique_name: str, vectors: VectorType, tmp_path: Path) -> None:
    index, reference = both(cluster, unique_name, vectors=vectors, shards=2, layout="words")
    wrong = no_vectors(vectors)

    def put(id: str, raw: bytes) -> None:
        body = {"id": id, "terms": {"t7": 1}, "codewords": "t7", "vector": base64.b64encode(raw).decode("ascii")}
        around = {"pipeline": "_none", "refresh": True}  # the pipeline would reject it
        index.cluster.request("PUT", f"/{index.name}/_doc/{id}", body=body, params=around)

    for id, raw in wrong.items():
        put(id, raw)
    axis = np.eye(1, DIMENSIONS, 7, dtype=np.float32)[0]
    everything: dict[str, Any] = {"k": 2 * DOCUMENTS, "rerank": 2 * DOCUMENTS}
    for query in (axis, -axis, ROWS[12]):
        found = index.search(query, **everything)
        known = replace(found, hits=tuple(hit for hit in found if hit.id not in wrong))
        assert_equal(known, reference.search(query, **everything))
        assert {hit.score for hit in found if hit.id in wrong} == ({-1.0} if query[7] > 0 else set())
    for id in wrong:
        document = index.get(id)
        assert document is not None
        assert document.vector is None, id
        assert index.search_by_id(id).ids  # found by its terms
    assert index.verify(sample=1_000).ok
    exported = dt.export_features(index, tmp_path / "store")
    assert [id for batch in exported.batches() for id in sorted(batch.ids)] == IDS
    if vectors == "float32":
        put("huge", np.full(DIMENSIONS, -1e30, dtype="<f4").tobytes())
        found = index.search(axis, **everything)
        assert (found.partial, {hit.id: hit.score for hit in found}["huge"]) == (False, -1.0)


@pytest.mark.parametrize("layout", ["words", "rank_features"])
def test_verification_reports_differences(cluster: Any, unique_name: str, layout: str) -> None:
    index, _ = both(cluster, unique_name, layout=layout)
    report = index.verify(sample=50)
    assert (report.documents, report.scores, report.differences) == (50, 2_500, ())
    assert report.ok
    assert 2_000 < report.cosines <= 2_500
    assert index.verify(sample=1_000).documents == DOCUMENTS
    # Terms and codewords of this document disagree, as if it had bypassed the pipeline.
    stored = index.get("d000")
    assert stored is not None
    answer = index.cluster.request("GET", f"/{index.name}/_doc/d000")
    terms = dict(stored.terms)
    rendered: Any = {"t0": 1} if layout == "rank_features" else "t0"
    body = {**answer["_source"], "terms": terms, "codewords": rendered, "id": "d000"}
    index.cluster.request(
        "PUT", f"/{answer['_index']}/_doc/d000", body=body, params={"pipeline": "_none", "refresh": True}
    )
    report = index.verify(sample=DOCUMENTS)
    assert not report.ok
    own = [difference for difference in report.differences if difference.query == difference.id == "d000"]
    assert {difference.kind for difference in own} == {"score", "missing"}
    assert own[0].expected == sum(value * value for value in terms.values())
    assert {"d000"} == {difference.id for difference in report.differences if difference.query != "d000"}
    for wrong in (0, 1_001):
        with pytest.raises(InvalidInput, match="expected 1 to 1000"):
            index.verify(sample=wrong)


def test_an_empty_index_equals_the_reference(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)
    assert index.verify() == dt.Verification(0, 0, 0)
    assert list(index.search_all(QUERIES[0])) == []
    assert [len(hits) for hits in index.search_many(QUERIES)] == [0] * len(QUERIES)


def test_too_many_clauses_are_rejected_before_sending(
    opensearch: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = both(opensearch, unique_name)
    setting = "indices.query.bool.max_clause_count"
    settings = Cluster(opensearch)
    settings.request("PUT", "/_cluster/settings", body={"transient": {setting: 20}})
    try:
        asked: list[str] = []
        real = index.cluster.request

        def noted(method: str, path: str, **options: Any) -> Any:
            asked.append(path)
            return real(method, path, **options)

        monkeypatch.setattr(index.cluster, "request", noted)
        with pytest.raises(InvalidInput, match=rf"24 clauses, and the cluster allows 20; .*{setting}.*effort"):
            index.search(QUERIES[0])
        with pytest.raises(InvalidInput, match=setting):
            list(index.search_all(QUERIES[0]))
        assert not [path for path in asked if path.endswith("_search")]
        assert all(setting in hits.error for hits in index.search_many(QUERIES))
        assert len(index.search(QUERIES[0], effort=20 / 24)) == 10
        tags = {"bool": {"should": [{"term": {"metadata.year": 2000 + n}} for n in range(8)]}}
        with pytest.raises(InvalidInput, match="24 clauses"):
            index.search(QUERIES[0], effort=16 / 24, filter=tags)
        settings.request("PUT", "/_cluster/settings", body={"transient": {setting: 24}})
        asked.clear()
        assert len(index.search(QUERIES[0])) == 10  # a raised limit is read again
        assert len(index.search(QUERIES[0])) == 10
        assert asked.count("/_cluster/settings") == 1
    finally:
        settings.request("PUT", "/_cluster/settings", body={"transient": {setting: None}})


def test_too_many_clauses_on_elasticsearch_are_explained(elasticsearch: Any, unique_name: str) -> None:
    index, _ = both(elasticsearch, unique_name)
    many = {"bool": {"should": [{"term": {"metadata.year": n}} for n in range(60_000)]}}
    with pytest.raises(ClusterError, match=r"less effort.*more heap"):
        index.search(QUERIES[0], filter=many)


def test_only_the_requested_hits_are_fetched(cluster: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = both(cluster, unique_name)
    fetched: list[int] = []
    real = index.cluster.request

    def noted(method: str, path: str, **options: Any) -> Any:
        answer = real(method, path, **options)
        if path.endswith("_search"):
            fetched.append(sum("_source" in hit for hit in answer["hits"]["hits"]))
        return answer

    monkeypatch.setattr(index.cluster, "request", noted)
    index.search(QUERIES[0], k=3, rerank=100)
    index.search(QUERIES[0], k=3, rerank=100, rerank_from=Store(IDS, ROWS))
    assert fetched == [3, 0, 3]


def test_the_largest_components_are_kept() -> None:
    terms = ENCODER.encode(QUERIES[0])
    ((components, weights),) = terms.rows()
    ((kept, kept_weights),) = keep_largest_components(terms, 0.25).rows()
    assert sorted(kept_weights) == [19, 20, 21, 22, 23, 24]
    assert dict(zip(kept, kept_weights, strict=True)).items() <= dict(zip(components, weights, strict=True)).items()
    binary = dt.DeepPermutation(DIMENSIONS, top_k=24, binary=True).encode(QUERIES[0])
    ((all_of, _),), ((first, _),) = binary.rows(), keep_largest_components(binary, 0.5).rows()
    assert first.tolist() == all_of[:12].tolist()
