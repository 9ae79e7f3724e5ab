"""Handles stay correct when their index is migrated, deleted and created again, rolled over, or deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.errors import ClusterError, DeepTermsError, IndexNotFound
from deepterms.index.ingest import DOCUMENTS_PER_BULK
from deepterms.migration import migrate
from deepterms.schema.layouts import select_default_layout
from deepterms.search.request import Search

COUNT, D = 60, 16
ROWS = np.random.default_rng(0).standard_normal((COUNT, D)).astype(np.float32)
IDS = [f"d{number:02}" for number in range(COUNT)]
METADATA = [{"n": number} for number in range(COUNT)]
OLD = dt.DeepPermutation(D, top_k=4)

# Options to recreate an index with; the layout, and with it the name of the concrete index, stays the same.
OTHERS: dict[str, dict[str, Any]] = {
    "another encoder": {"encoder": dt.DeepPermutation(D, top_k=3, crelu=False)},
    "pivots": {"encoder": dt.PivotPermutation(dt.sample_pivots(ROWS, 32), top_k=3, query_top_k=6)},
    "int8 vectors": {"encoder": OLD, "store_vectors": "int8"},
    "no vectors": {"encoder": OLD, "store_vectors": False},
    "sketches": {"encoder": OLD, "sketch": True},
}
LAYOUTS = ["default", "rank_features"]


def create(cluster: Any, name: str, layout: str = "default", **options: Any) -> dt.SurrogateIndex:
    chosen = select_default_layout(Cluster(cluster).engine).name if layout == "default" else layout
    return dt.SurrogateIndex.create(cluster, name, layout=chosen, replicas=0, **options)


def fill(index: dt.SurrogateIndex) -> None:
    assert index.add(IDS, ROWS, METADATA).failed == ()
    index.refresh()


@pytest.fixture
def old(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    """A handle of a filled index, which tests replace without telling the handle."""
    dt.deploy(cluster)
    index = create(cluster, unique_name, encoder=OLD)
    fill(index)
    return index


def create_again(cluster: Any, old: dt.SurrogateIndex, layout: str = "default", **options: Any) -> dt.SurrogateIndex:
    before = old.state.uuids
    dt.SurrogateIndex.open(cluster, old.name).drop()
    new = create(cluster, old.name, layout, **options)
    if new.layout == old.layout:
        assert new.state.uuids.keys() == before.keys()
    assert new.state.uuids != before
    return new


def scores(hits: dt.Hits) -> list[tuple[str, float]]:
    assert not hits.partial
    return sorted((hit.id, round(hit.score, 4)) for hit in hits)


def stored(index: dt.SurrogateIndex, identifier: str) -> Any:
    document = index.get(identifier)
    assert document is not None
    return document.terms, None if document.vector is None else np.round(document.vector, 2).tolist()


SEARCHES: dict[str, Callable[[dt.SurrogateIndex], Any]] = {
    "search": lambda index: scores(index.search(ROWS[5], k=COUNT)),
    "plain": lambda index: scores(index.search(ROWS[5], k=COUNT, rerank=0)),
    "filter": lambda index: scores(index.search(ROWS[5], k=COUNT, filter={"range": {"metadata.n": {"lt": 9}}})),
    "search_many": lambda index: [scores(hits) for hits in index.search_many(ROWS[:3], k=COUNT)],
    "search_by_id": lambda index: scores(index.search_by_id("d07", k=COUNT)),
    "search_all": lambda index: sorted((hit.id, hit.score) for hit in index.search_all(ROWS[5])),
    "explain": lambda index: index.explain("d05", ROWS[5]),
    "get": lambda index: stored(index, "d07"),
    "verify": lambda index: (found := index.verify(sample=20)).ok and (found.scores, found.cosines),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", OTHERS)
def test_searches_follow_an_index_created_again(cluster: Any, unique_name: str, other: str, layout: str) -> None:
    dt.deploy(cluster)
    first = create(cluster, unique_name, layout, encoder=OLD)
    fill(first)
    handles = {name: dt.SurrogateIndex.open(cluster, unique_name) for name in SEARCHES}
    new = create_again(cluster, first, layout, **OTHERS[other])
    fill(new)
    for name, search in SEARCHES.items():
        assert search(handles[name]) == search(new), name


@pytest.mark.parametrize("other", OTHERS)
def test_writes_follow_an_index_created_again(cluster: Any, old: dt.SurrogateIndex, other: str) -> None:
    new = create_again(cluster, old, **OTHERS[other])
    fill(old)  # the first write is rejected and encoded again
    assert old.state == new.state
    assert (new.count(), new.verify(sample=30).ok) == (COUNT, True)
    memory = dt.MemoryIndex(new.encoder, store_vectors=new.vector_type or False)
    memory.add(IDS, ROWS, METADATA)
    assert scores(new.search(ROWS[5], k=COUNT, rerank=0)) == scores(memory.search(ROWS[5], k=COUNT, rerank=0))


def test_updates_and_deletes_follow_too(cluster: Any, old: dt.SurrogateIndex) -> None:
    updates, deletes, filters = (dt.SurrogateIndex.open(cluster, old.name) for _ in range(3))
    new = create_again(cluster, old, **OTHERS["int8 vectors"])
    fill(new)
    assert updates.update_metadata(["d01"], [{"n": -1}]) == dt.WriteReport(1)
    assert deletes.delete(["d02", "not there"]) == dt.WriteReport(2)
    new.refresh()
    assert filters.delete_by_filter({"term": {"metadata.n": 3}}) == dt.WriteReport(1)
    new.refresh()
    changed = new.get("d01")
    assert changed is not None
    assert (changed.metadata, new.count()) == ({"n": -1}, COUNT - 2)
    assert new.verify(sample=30).ok


def test_terms_of_the_old_encoder_are_rejected(cluster: Any, old: dt.SurrogateIndex) -> None:
    def stream() -> Iterator[tuple[list[str], dt.TermFrequencies, None]]:
        create_again(cluster, old, encoder=dt.DeepPermutation(D, top_k=5))  # of the same vocabulary
        yield IDS[:2], OLD.encode(ROWS[:2]), None

    report = old.add_batches(stream())
    new = dt.SurrogateIndex.open(cluster, old.name)
    assert report.succeeded == 0
    assert [failure.id for failure in report.failed] == IDS[:2]
    new.refresh()
    assert new.count() == 0


def test_a_stream_survives_an_index_created_again(cluster: Any, old: dt.SurrogateIndex) -> None:
    piece = DOCUMENTS_PER_BULK
    rows = np.random.default_rng(1).standard_normal((4 * piece, D)).astype(np.float32)
    ids = [f"s{number}" for number in range(len(rows))]

    def stream() -> Iterator[tuple[list[str], NDArray[np.float32], None]]:
        yield ids[:piece], rows[:piece], None
        yield ids[piece : 2 * piece], rows[piece : 2 * piece], None
        while old.count() < COUNT + 2 * piece:  # both are acknowledged
            old.refresh()
        create_again(cluster, old, **OTHERS["pivots"])
        yield ids[2 * piece : 3 * piece], rows[2 * piece : 3 * piece], None
        yield ids[3 * piece :], rows[3 * piece :], None

    report = old.add_batches(stream())
    assert (report.succeeded, report.failed, report.lost) == (2 * piece, (), 2 * piece)
    old.refresh()
    assert old.encoder.spec() == OTHERS["pivots"]["encoder"].spec()
    assert (old.count(), old.verify(sample=100).ok) == (2 * piece, True)
    assert old.search(rows[-1], k=1).ids == [ids[-1]]


@pytest.mark.parametrize("to", ["pivots", "another encoder"])
def test_threads_that_share_a_handle_during_a_migration(
    cluster: Any, old: dt.SurrogateIndex, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread already uses the new index when the other one's query, built for the old index, arrives there."""
    real = Search.build.__func__  # type: ignore[attr-defined]
    meanwhile: list[Callable[[], None]] = []

    def build(cls: Any, *given: Any, **options: Any) -> Search:
        made: Search = real(cls, *given, **options)
        if meanwhile:
            meanwhile.pop()()
        return made

    monkeypatch.setattr(Search, "build", classmethod(build))

    def replace_and_look() -> None:
        with ThreadPoolExecutor(1) as other:
            encoder = OTHERS[to]["encoder"]
            other.submit(migrate, cluster, old.name, encoder=encoder).result()
            other.submit(old.search, ROWS[1]).result()

    for rerank in (0, None):
        meanwhile.append(replace_and_look)
        hits = old.search(ROWS[5], k=COUNT, rerank=rerank)
        assert not meanwhile
        fresh = dt.SurrogateIndex.open(cluster, old.name)
        assert fresh.encoder.spec() == OTHERS[to]["encoder"].spec()
        assert scores(hits) == scores(fresh.search(ROWS[5], k=COUNT, rerank=rerank))
        migrate(cluster, old.name, encoder=OLD)
        old.reopen()


ACTIONS: dict[str, Callable[[dt.SurrogateIndex], Any]] = {
    "search": lambda index: index.search(ROWS[0]),
    "filter": lambda index: index.search(ROWS[0], filter={"term": {"metadata.n": 1}}),
    "search_many": lambda index: index.search_many(ROWS[:2]),
    "search_all": lambda index: list(index.search_all(ROWS[0])),
    "search_by_id": lambda index: index.search_by_id("d01"),
    "get": lambda index: index.get("d01"),
    "count": lambda index: index.count(),
    "verify": lambda index: index.verify(sample=5),
    "stats": lambda index: index.stats(),
    "add": lambda index: index.add(IDS, ROWS),
    "update_metadata": lambda index: index.update_metadata(["d01"], [{}]),
    "delete": lambda index: index.delete(["d01"]),
    "delete_by_filter": lambda index: index.delete_by_filter({"match_all": {}}),
    "refresh": lambda index: index.refresh(),
    "reconcile": lambda index: index.reconcile(IDS),
}


@pytest.mark.parametrize("by", ["alias", "concrete name"])
def test_every_action_reports_a_deleted_index(cluster: Any, old: dt.SurrogateIndex, by: str) -> None:
    (concrete,) = old.concrete
    handle = dt.SurrogateIndex.open(cluster, old.name if by == "alias" else concrete)
    old.drop()
    for name, act in ACTIONS.items():
        with pytest.raises(IndexNotFound):
            act(handle)
            pytest.fail(f"{name} found an index")
    for left in (old.name, concrete):
        assert not Cluster(cluster).request("HEAD", f"/{left}")


def test_an_index_deleted_during_writes_is_not_recreated(cluster: Any, old: dt.SurrogateIndex) -> None:
    def stream() -> Iterator[tuple[list[str], NDArray[np.float32], None]]:
        yield IDS, ROWS, None
        dt.SurrogateIndex.open(cluster, old.name).drop()
        yield ["late"], ROWS[:1], None

    with pytest.raises(IndexNotFound):
        old.add_batches(stream())
    assert not Cluster(cluster).request("HEAD", f"/{old.name}")


def test_writes_work_through_the_concrete_name(cluster: Any, old: dt.SurrogateIndex) -> None:
    (concrete,) = old.concrete
    handle = dt.SurrogateIndex.open(cluster, concrete)
    assert handle.add(["new"], ROWS[:1]) == dt.WriteReport(1)
    old.refresh()
    assert old.get("new") is not None


def roll_over(cluster: Cluster, name: str, concrete: str) -> None:
    """Roll over like index lifecycle management; the old index keeps the alias."""
    action = {"add": {"index": concrete, "alias": name, "is_write_index": True}}
    cluster.request("POST", "/_aliases", body={"actions": [action]})
    cluster.request("POST", f"/{name}/_rollover")


def roll_over_and_leave(cluster: Cluster, name: str, concrete: str) -> None:
    """Roll over so that the alias points to the new index only."""
    cluster.request("POST", f"/{name}/_rollover")


def add_second_index(cluster: Cluster, name: str, concrete: str) -> None:
    """Add a foreign index to the same alias."""
    cluster.request("PUT", f"/{name}-other", body={"aliases": {name: {}}, "settings": {"number_of_replicas": 0}})


@pytest.mark.parametrize("change", [roll_over, roll_over_and_leave, add_second_index])
@pytest.mark.parametrize("action", ["search", "search_many", "add", "delete", "update_metadata"])
def test_a_second_index_behind_the_alias_is_one_clear_error(
    cluster: Any, old: dt.SurrogateIndex, change: Callable[[Cluster, str, str], None], action: str
) -> None:
    own, (concrete,) = Cluster(cluster), old.concrete
    change(own, old.name, concrete)
    try:
        with pytest.raises(ClusterError, match=r"points to 2 indices|has no encoder"):
            ACTIONS[action](old)
        own.request("POST", f"/deepterms-*-{old.name}-*/_refresh")
        for index in own.request("GET", f"/deepterms-*-{old.name}-*"):
            left = own.request("POST", f"/{index}/_count")["count"]
            assert left == (COUNT if index == concrete else 0)
    finally:
        if change is add_second_index:
            own.request("DELETE", f"/{old.name}-other")


def test_the_pipeline_rejects_documents_of_another_index(cluster: Any, old: dt.SurrogateIndex) -> None:
    own = Cluster(cluster)
    documents = {
        "right": {"terms": {"t1": 1}, "fingerprint": old.state.fingerprint},
        "none": {"terms": {"t1": 1}},
        "wrong": {"terms": {"t1": 1}, "fingerprint": "00000000"},
        "odd": {"terms": {"t1": 1}, "fingerprint": {"a": [1]}},
    }
    lines = [({"index": {"_id": name}}, json.dumps(document)) for name, document in documents.items()]
    outcomes = dict(own.bulk(lines, index=old.name).outcomes)
    assert {name for name, why in outcomes.items() if not why} == {"right", "none"}
    assert "field [fingerprint] is [00000000], but this index has [" in outcomes["wrong"]
    old.refresh()
    hits = own.request("POST", f"/{old.name}/_search", body={"query": {"ids": {"values": ["right"]}}})["hits"]["hits"]
    assert "fingerprint" not in hits[0]["_source"]


def test_an_index_created_with_curl_alone_works(cluster: Any, unique_name: str) -> None:
    """It has neither a guard field nor its own pipeline, so each search checks that the index is still the same."""
    dt.deploy(cluster)
    own, layout = Cluster(cluster), select_default_layout(Cluster(cluster).engine)
    concrete = layout.index_name(unique_name)
    meta = {"layout": layout.name, "version": 1, "encoder": OLD.spec(), "vectors": "float32", "extractor": {}}

    def make() -> dt.SurrogateIndex:
        body = {
            "settings": {"number_of_replicas": 0},
            "mappings": {"_meta": {"deepterms": meta}},
            "aliases": {unique_name: {}},
        }
        own.request("PUT", f"/{concrete}", body=body)
        return dt.SurrogateIndex.open(cluster, unique_name)

    index = make()
    assert (index.state.fingerprint, index.state.guards_queries) == (None, False)
    fill(index)
    memory = dt.MemoryIndex(OLD)
    memory.add(IDS, ROWS, METADATA)
    assert scores(index.search(ROWS[5], k=9)) == scores(memory.search(ROWS[5], k=9))
    own.request("DELETE", f"/{concrete}")
    meta["encoder"] = OTHERS["another encoder"]["encoder"].spec()
    fill(make())
    assert scores(index.search(ROWS[5], k=9, rerank=0)) == scores(make_memory().search(ROWS[5], k=9, rerank=0))


def make_memory() -> dt.MemoryIndex:
    memory = dt.MemoryIndex(OTHERS["another encoder"]["encoder"])
    memory.add(IDS, ROWS, METADATA)
    return memory


def test_errors_of_a_replaced_index_are_ours(cluster: Any, old: dt.SurrogateIndex) -> None:
    """With another dimension, features for the new index are accepted and those for the old one rejected."""
    wide = np.random.default_rng(2).standard_normal((COUNT, 2 * D)).astype(np.float32)
    new = create_again(cluster, old, encoder=dt.DeepPermutation(2 * D, top_k=4))
    assert new.add(IDS, wide).failed == ()
    new.refresh()
    assert old.search(wide[3], k=1).ids == ["d03"]
    other = dt.SurrogateIndex.open(cluster, old.name)
    create_again(cluster, old, encoder=OLD)
    with pytest.raises(DeepTermsError, match="expected"):
        other.search(wide[3])
