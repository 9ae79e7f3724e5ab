"""MemoryIndex = OpenSearch = Elasticsearch: all scores are equal, and so are the ids within each group of ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.schema.layouts import LAYOUTS, Layout

DIMENSIONS = 420

# Up to this K, a document's score with itself, K(K+1)(2K+1)/6, is below 2^24, so float32 is exact.
MAX_EXACT_K = 368


def exact(encoder: dt.DeepPermutation) -> bool:
    return encoder.binary or encoder.top_k <= MAX_EXACT_K


def collection(count: int, seed: int) -> NDArray[np.float32]:
    """Generate descriptors with many equal components and some equal rows, so that scores tie."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-9, 10, (count, DIMENSIONS)).astype(np.float32)
    rows[count // 2 :: 3] = rng.standard_normal((len(rows[count // 2 :: 3]), DIMENSIONS))
    rows[3::10] = rows[2::10][: len(rows[3::10])]
    rows[5, 30:] = 0  # fewer than K components left
    rows[:, 0] += 0.5
    return rows


def names(count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Return ids, and metadata that repeats them."""
    ids = [f"d{number:03}" for number in range(count)]
    return ids, [{"id": id} for id in ids]


def add_to_both(index: dt.SurrogateIndex, reference: dt.MemoryIndex, rows: NDArray[np.float32]) -> None:
    ids, metadata = names(len(rows))
    for target in (index, reference):
        assert target.add(ids, rows, metadata=metadata) == dt.WriteReport(len(rows))
        target.refresh()


def assert_equal_hits(found: dt.Hits, expected: dt.Hits, *, relative: float) -> None:
    assert not found.partial
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], rtol=relative, atol=0)
    # Engines may order ties in any way, including scores that float32 rounds to the same value. A group therefore ends
    # where the reference's scores differ by more than the rounding error.
    groups: list[list[int]] = []
    for rank, hit in enumerate(expected):
        close = groups and abs(expected[groups[-1][-1]].score - hit.score) <= relative * abs(hit.score)
        if close:
            groups[-1].append(rank)
        else:
            groups.append([rank])
    for group in groups:
        assert {found[rank].id for rank in group} == {expected[rank].id for rank in group}
        assert all(dict(found[rank].metadata) == {"id": found[rank].id} for rank in group)


def assert_equal_answers(
    index: dt.SurrogateIndex, reference: dt.MemoryIndex, queries: list[NDArray[np.float32]], *, relative: float
) -> None:
    everything = reference.count()
    for query in queries:
        found, expected = (target.search(query, k=everything, rerank=0) for target in (index, reference))
        assert_equal_hits(found, expected, relative=relative)
    for query in queries[-2:]:  # the cosine depends on neither layout nor K
        found, expected = (target.search(query, k=20, rerank=everything) for target in (index, reference))
        cosines, exact = ([hit.score for hit in hits] for hits in (found, expected))
        np.testing.assert_allclose(cosines, exact, atol=5e-7, rtol=0)


def layouts_of(cluster: Any) -> list[Layout]:
    engine = Cluster(cluster).engine
    return [layout for layout in LAYOUTS if layout.runs_on(engine)]


def encoder_for(layout: Layout, *, dimensions: int = DIMENSIONS, top_k: int) -> dt.DeepPermutation:
    return dt.DeepPermutation(dimensions, top_k=top_k, binary=layout.max_term_frequency == 1)


@pytest.mark.parametrize("top_k", [44, 45, 100, 368, 400])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_score_equals_the_reference(cluster: Any, unique_name: str, shards: int, top_k: int) -> None:
    dt.deploy(cluster)
    rows = collection(40, seed=top_k)
    queries = [*collection(6, seed=top_k + 1)[:2], rows[0], rows[5], -rows[7]]
    for layout in layouts_of(cluster):
        encoder = encoder_for(layout, top_k=top_k)
        name = f"{unique_name}-{layout.name}"
        index = dt.SurrogateIndex.create(cluster, name, encoder=encoder, layout=layout.name, shards=shards, replicas=0)
        reference = dt.MemoryIndex(encoder)
        add_to_both(index, reference, rows)
        assert_equal_answers(index, reference, queries, relative=0.0 if exact(encoder) else 1e-6)


def test_frequencies_are_exact_up_to_512(cluster: Any, unique_name: str) -> None:
    """Queries with few components keep scores below 2^24, so a rounded frequency would show."""
    dt.deploy(cluster)
    rows = np.random.default_rng(512).standard_normal((12, 512)).astype(np.float32)
    queries = [np.where(np.abs(row) >= np.sort(np.abs(row))[-3], row, 0) for row in rows[:4]]
    queries.append(np.where(np.abs(rows[4]) <= np.sort(np.abs(rows[4]))[3], rows[4], 0))
    for layout in layouts_of(cluster):
        encoder = encoder_for(layout, dimensions=512, top_k=512)
        index = dt.SurrogateIndex.create(
            cluster, f"{unique_name}-{layout.name}", encoder=encoder, layout=layout.name, replicas=0
        )
        reference = dt.MemoryIndex(encoder)
        add_to_both(index, reference, rows)
        assert_equal_answers(index, reference, queries, relative=0.0)


@pytest.mark.parametrize("shards", [1, 3])
def test_scores_stay_equal_after_deletes_and_additions(cluster: Any, unique_name: str, shards: int) -> None:
    dt.deploy(cluster)
    rows = collection(60, seed=2)
    ids, metadata = names(len(rows))
    queries = [*collection(6, seed=3)[:2], rows[0]]
    for layout in layouts_of(cluster):
        encoder = encoder_for(layout, top_k=20)
        name = f"{unique_name}-{layout.name}"
        index = dt.SurrogateIndex.create(cluster, name, encoder=encoder, layout=layout.name, shards=shards, replicas=0)
        reference = dt.MemoryIndex(encoder)
        add_to_both(index, reference, rows)
        for target in (index, reference):
            assert target.delete(ids[::4]) == dt.WriteReport(len(ids[::4]))
            target.refresh()
        assert index.count() == reference.count() == len(ids) - len(ids[::4])
        assert_equal_answers(index, reference, queries, relative=0.0)
        for target in (index, reference):  # restore some deleted documents and replace some of the others
            target.add(ids[::8], rows[::8], metadata=metadata[::8])
            target.add(ids[1::9], collection(60, seed=9)[1::9], metadata=metadata[1::9])
            target.refresh()
        assert_equal_answers(index, reference, queries, relative=0.0)


def test_search_by_id_and_get_equal_the_reference(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    encoder = dt.DeepPermutation(DIMENSIONS, top_k=30)
    rows = np.random.default_rng(0).standard_normal((50, DIMENSIONS)).astype(np.float32)
    ids = [f"d{number}" for number in range(50)]
    for store_vectors in (True, False):
        name = f"{unique_name}-{str(store_vectors).lower()}"
        index = dt.SurrogateIndex.create(cluster, name, encoder=encoder, store_vectors=store_vectors, replicas=0)
        reference = dt.MemoryIndex(encoder, store_vectors=store_vectors)
        for target in (index, reference):
            target.add(ids, rows, metadata=[{"id": id} for id in ids])
            target.refresh()
        found, expected = (target.search_by_id("d7", k=10, rerank=0) for target in (index, reference))
        assert_equal_hits(found, expected, relative=0.0)
        assert "d7" not in found.ids
        ours, theirs = reference.get("d7"), index.get("d7")
        assert ours is not None
        assert theirs is not None
        assert theirs.terms == ours.terms
        assert theirs.metadata == ours.metadata
        if store_vectors:
            assert ours.vector is not None
            assert theirs.vector is not None
            assert theirs.vector.tobytes() == ours.vector.tobytes()
        else:
            assert theirs.vector is None
        assert index.get("nobody") is None


FILTERS: list[dict[str, Any]] = [
    {"term": {"metadata.year": 2003}},
    {"term": {"metadata.place": "Pisa 3"}},
    {"terms": {"metadata.tags": ["b", "c"]}},
    {"range": {"metadata.year": {"gte": 2002, "lt": 2004}}},
    {"exists": {"field": "metadata.rare"}},
    {"prefix": {"metadata.place": "Pisa"}},
    {"term": {"metadata.own": True}},
    {"ids": {"values": ["d1", "d2", "d30"]}},
    {"bool": {"must_not": [{"term": {"metadata.year": 2003}}], "filter": [{"exists": {"field": "metadata.tags"}}]}},
    {"bool": {"should": [{"term": {"metadata.year": 2001}}, {"term": {"metadata.nested.deep": 4}}]}},
    {"match_all": {}},
]


def test_filtered_searches_equal_the_reference(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    encoder = dt.DeepPermutation(DIMENSIONS, top_k=20)
    rows = np.random.default_rng(0).standard_normal((60, DIMENSIONS)).astype(np.float32)
    ids = [f"d{number}" for number in range(60)]
    metadata = [
        {
            "year": 2000 + number % 5,
            "place": f"Pisa {number % 4}" if number % 3 else f"Lucca {number}",
            "tags": [["a"], ["b", "c"], []][number % 3],
            "own": number % 2 == 0,
            "nested": {"deep": number % 7},
            **({"rare": 1} if number % 10 == 0 else {}),
        }
        for number in range(60)
    ]
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=encoder, replicas=0)
    reference = dt.MemoryIndex(encoder)
    for target in (index, reference):
        assert target.add(ids, rows, metadata=metadata).failed == ()
        target.refresh()
    for filter in FILTERS:
        assert index.count(filter=filter) == reference.count(filter=filter), filter
        for rerank in (0, 60):
            found, expected = (
                {hit.id: hit.score for hit in target.search(rows[0], k=60, filter=filter, rerank=rerank)}
                for target in (index, reference)
            )
            assert found.keys() == expected.keys(), filter
            assert found == pytest.approx(expected, abs=5e-7), filter


def test_the_comparison_detects_differences() -> None:
    """Different scores, or a different id outside a group of ties, fail the comparison."""

    def hits(*pairs: tuple[str, float]) -> dt.Hits:
        return dt.Hits(tuple(dt.Hit(id, score, {"id": id}) for id, score in pairs))

    expected = hits(("a", 3.0), ("b", 2.0), ("c", 2.0))
    assert_equal_hits(hits(("a", 3.0), ("c", 2.0), ("b", 2.0)), expected, relative=0.0)
    for wrong in (hits(("b", 3.0), ("a", 2.0), ("c", 2.0)), hits(("a", 3.0), ("b", 2.0), ("c", 1.0))):
        with pytest.raises(AssertionError):
            assert_equal_hits(wrong, expected, relative=0.0)
