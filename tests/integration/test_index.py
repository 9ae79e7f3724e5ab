"""SurrogateIndex on real clusters: create, open, fill, and the messages of rejected calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import deepterms as dt
from deepterms import deployment
from deepterms.cli.app import app
from deepterms.cluster.cluster import Cluster
from deepterms.doctor import examine
from deepterms.errors import (
    ClusterError,
    EncoderMismatch,
    IndexAlreadyExists,
    IndexNotFound,
    InvalidInput,
    RequestRejected,
    UnsupportedEngine,
)
from deepterms.index import ingest
from deepterms.schema.layouts import LAYOUTS, select_default_layout

ENCODER = dt.DeepPermutation(64, top_k=16)

# The engines warn about templates whose patterns overlap.
OVERLAPS = pytest.mark.filterwarnings(
    "ignore::elasticsearch.ElasticsearchWarning", "ignore::opensearchpy.OpenSearchWarning"
)


def features(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)


@pytest.fixture
def index(cluster: Any, unique_name: str) -> dt.SurrogateIndex:
    dt.deploy(cluster)
    return dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, replicas=0)


def test_an_index_is_an_alias_that_any_client_can_open(cluster: Any, index: dt.SurrogateIndex) -> None:
    same = dt.SurrogateIndex.open(cluster, index.name)
    assert same.encoder == ENCODER
    assert (same.layout, same.stores_vectors, same.extractor) == (index.layout, True, {})
    aliases = Cluster(cluster).request("GET", f"/_alias/{index.name}")
    assert list(aliases) == [index.layout.index_name(index.name)]
    by_its_own_name = dt.SurrogateIndex.open(cluster, index.layout.index_name(index.name))
    assert by_its_own_name.encoder == ENCODER


def test_open_rejects_another_encoder(cluster: Any, index: dt.SurrogateIndex) -> None:
    assert dt.SurrogateIndex.open(cluster, index.name, encoder=ENCODER).name == index.name
    with pytest.raises(
        EncoderMismatch, match=r"with deep-permutation/d64/crelu/k16; got deep-permutation/d64/crelu/k17"
    ):
        dt.SurrogateIndex.open(cluster, index.name, encoder=dt.DeepPermutation(64, top_k=17))
    with pytest.raises(InvalidInput, match=r"expected \(N, 64\)"):
        index.search(np.ones(65))


def test_create_rejects_an_existing_name(cluster: Any, index: dt.SurrogateIndex) -> None:
    with pytest.raises(IndexAlreadyExists, match="open it with"):
        dt.SurrogateIndex.create(cluster, index.name, encoder=ENCODER)


def test_open_reports_a_missing_index(cluster: Any, unique_name: str) -> None:
    with pytest.raises(IndexNotFound, match="create it with SurrogateIndex"):
        dt.SurrogateIndex.open(cluster, unique_name)


def test_open_rejects_an_index_without_our_metadata(cluster: Any, unique_name: str) -> None:
    concrete = f"deepterms-none-{unique_name}-1"
    Cluster(cluster).request("PUT", f"/{concrete}", body={"settings": {"number_of_replicas": 0}})
    with pytest.raises(ClusterError, match="has no encoder"):
        dt.SurrogateIndex.open(cluster, concrete)


def test_create_needs_the_templates(cluster: Any, unique_name: str) -> None:
    layout = select_default_layout(Cluster(cluster).engine)
    Cluster(cluster).request("DELETE", f"/_index_template/{layout.resource}")
    try:
        with pytest.raises(ClusterError, match="call deepterms"):
            dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER)
        assert not Cluster(cluster).request("HEAD", f"/{unique_name}")
    finally:
        dt.deploy(cluster)


@OVERLAPS
@pytest.mark.parametrize("settings", [{}, {"index": {"default_pipeline": "theirs"}}], ids=["catch-all", "pipeline"])
def test_an_overriding_template_is_named(
    cluster: Any, unique_name: str, url: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither `create`, nor `check`, nor the doctor sends anybody to `deploy`, which would not help."""
    dt.deploy(cluster)
    own = Cluster(cluster)
    layout = select_default_layout(own.engine)
    other = {"index_patterns": ["*"], "priority": 9_000, "template": {"settings": settings}}
    named = rf"'{unique_name}' \(priority 9000, patterns \*\) overrides {layout.resource}.* lower priority"
    try:
        # A legacy template never overrides.
        own.request("PUT", f"/_template/{unique_name}", body={"index_patterns": ["*"], "order": 9_000})
        assert deployment.plan(cluster).overridden == ()
        own.request("PUT", f"/_index_template/{unique_name}", body=other)
        with pytest.raises(ClusterError, match=named):
            dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER)
        assert len(deployment.plan(cluster).overridden) == len(LAYOUTS) + 1 - (own.engine.name == "elasticsearch")
        dt.deploy(cluster)
        assert f"no index can be created yet: the index template '{unique_name}'" in caplog.text
        (finding,) = (found for found in examine(cluster) if found.subject == "templates")
        assert (finding.level, unique_name in finding.text) == ("red", True)
        assert "give it a lower priority" in finding.advice
        checked = CliRunner().invoke(app, ["check", "--url", url])
        assert (checked.exit_code, unique_name in checked.stderr) == (1, True)
    finally:
        own.request("DELETE", f"/_index_template/{unique_name}")
        own.request("DELETE", f"/_template/{unique_name}")


@OVERLAPS
def test_a_template_of_the_same_priority_is_rejected_by_name(cluster: Any, unique_name: str, bare: Any) -> None:
    own = Cluster(bare)
    try:
        body = {"index_patterns": ["deepterms-*"], "priority": 500}
        own.request("PUT", f"/_index_template/{unique_name}", body=body)
        with pytest.raises(RequestRejected, match=rf"cannot be deployed, so nothing was changed.*{unique_name}"):
            dt.deploy(bare)
    finally:
        own.request("DELETE", f"/_index_template/{unique_name}")


def test_create_rejects_an_unsupported_layout(elasticsearch: Any, unique_name: str) -> None:
    dt.deploy(elasticsearch)
    with pytest.raises(UnsupportedEngine, match="it has: words"):
        dt.SurrogateIndex.create(elasticsearch, unique_name, encoder=ENCODER, layout="frequencies")


def test_pieces_are_streamed_and_counted(index: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", 7)
    rows = features(100)
    ids = [f"d{number}" for number in range(100)]
    done: list[int] = []
    report = index.add(ids, rows, metadata=[{"n": n} for n in range(100)], threads=3, on_progress=done.append)
    assert report == dt.WriteReport(100)
    assert sum(done) == 100
    index.refresh()
    assert index.count() == 100
    for row in (0, 6, 7, 99):
        (hit,) = index.search(rows[row], k=1)
        assert (hit.id, dict(hit.metadata)) == (f"d{row}", {"n": row})
        assert hit.score == pytest.approx(1, abs=5e-7)
    report = index.add_batches((ids[n : n + 13], -rows[n : n + 13], None) for n in range(0, 100, 13))
    assert report == dt.WriteReport(100)
    index.refresh()
    assert index.count() == 100
    assert index.search(-rows[50], k=1).ids == ["d50"]


def test_bad_documents_are_reported_and_the_rest_indexed(index: dt.SurrogateIndex) -> None:
    rows = features(8)
    rows[1, 2], rows[2] = np.inf, 0
    ids: list[Any] = ["ok-0", "infinite", "zero", "ok-3", "", "conflict", "ok-3", "ok-7"]
    metadata: list[dict[str, Any]] = [{"year": 2001}, {}, {}, {"year": 2003}, {}, {"year": "not a number"}, {}, {}]
    index.add(["first"], features(1, seed=5), metadata=[{"year": 2000}])  # maps metadata.year to a number
    report = index.add(ids, rows, metadata=metadata)
    assert report.succeeded == 3
    reasons = {failure.id: failure.reason for failure in report.failed}
    assert list(reasons) == ["infinite", "zero", "", "ok-3", "conflict"]
    assert "NaN or infinite" in reasons["infinite"]
    assert "metadata.year" in reasons["conflict"] or "not a number" in reasons["conflict"]
    index.refresh()
    assert index.count() == 4


def test_a_rejected_request_reports_each_of_its_documents(
    index: dt.SurrogateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = index.cluster.bulk
    calls = iter([False, True, False])

    def sometimes(actions: Any, **options: Any) -> Any:
        if next(calls):
            raise RequestRejected("rejected (HTTP 403): no rights", status=403)
        return real(actions, **options)

    monkeypatch.setattr(index.cluster, "bulk", sometimes)
    monkeypatch.setattr(ingest, "DOCUMENTS_PER_BULK", 10)
    report = index.add([f"d{n}" for n in range(30)], features(30), threads=1)
    assert report.succeeded == 20
    assert [failure.id for failure in report.failed] == [f"d{n}" for n in range(10, 20)]
    assert {failure.reason for failure in report.failed} == {"rejected (HTTP 403): no rights"}


def test_delete_and_drop(index: dt.SurrogateIndex) -> None:
    index.add(["a", "b", "c"], features(3))
    index.refresh()
    assert index.delete(["a", "never there"]) == dt.WriteReport(2)
    index.refresh()
    assert index.count() == 2
    with pytest.raises(InvalidInput, match="refresh"):
        index.search_by_id("a")
    index.drop()
    with pytest.raises(IndexNotFound):
        dt.SurrogateIndex.open(index.cluster.client, index.name)


def test_odd_ids_and_metadata_round_trip(index: dt.SurrogateIndex) -> None:
    ids = ["a/b.jpg", "ü é 漢字", 'quote"\\', "%2F", "x" * 512, " space "]
    rows = features(len(ids))
    metadata = [{"path": f"/photos/{id[:20]}\n\t\u2028", "list": [1, [2, None]], "empty": {}} for id in ids]
    assert index.add(ids, rows, metadata=metadata) == dt.WriteReport(len(ids))
    index.refresh()
    for id, row, given in zip(ids, rows, metadata, strict=True):
        (hit,) = index.search(row, k=1)
        assert (hit.id, dict(hit.metadata)) == (id, given)
    assert index.delete(ids).succeeded == len(ids)
    index.refresh()
    assert index.count() == 0


def test_filter_needs_a_codeword_in_common(index: dt.SurrogateIndex) -> None:
    """Without minimum_should_match, a filter alone would match with score 0."""
    one, other = np.zeros((2, 64), dtype=np.float32)
    one[0], other[1] = 1, 1
    index.add(["one"], one[np.newaxis], metadata=[{"x": 1}])
    index.refresh()
    assert index.search(other, filter={"term": {"metadata.x": 1}}, rerank=0).ids == []
    assert index.search(one, filter={"term": {"metadata.x": 1}}, rerank=0).ids == ["one"]


def test_rerank_needs_vectors(cluster: Any, unique_name: str) -> None:
    dt.deploy(cluster)
    index = dt.SurrogateIndex.create(cluster, unique_name, encoder=ENCODER, store_vectors=False, replicas=0)
    rows = features(10)
    index.add([str(n) for n in range(10)], rows)
    index.refresh()
    assert index.search(rows[3], k=1)[0].score == 16 * 17 * 33 / 6
    with pytest.raises(InvalidInput, match="stores no vectors"):
        index.search(rows[3], rerank=10)
    document = index.get("3")
    assert document is not None
    assert document.vector is None


def test_a_rejected_query_says_why(index: dt.SurrogateIndex) -> None:
    with pytest.raises(RequestRejected, match="HTTP 400") as rejection:
        index.search(features(1)[0], filter={"no_such_query": {}})
    assert "no_such_query" in str(rejection.value)
    assert rejection.value.status == 400


def test_create_from_the_spec_of_another_index(cluster: Any, index: dt.SurrogateIndex, unique_name: str) -> None:
    spec = dt.SurrogateIndex.open(cluster, index.name).spec
    same = dt.SurrogateIndex.create(cluster, f"{unique_name}-2", spec=spec, replicas=0)
    try:
        assert (same.spec, same.encoder, same.layout) == (index.spec, ENCODER, index.layout)
        assert same.state.fingerprint == index.state.fingerprint
    finally:
        same.drop()
    for given, message in (
        ({}, "needs an encoder, or the spec"),
        ({"spec": spec, "encoder": ENCODER}, "already holds all of them"),
        ({"spec": spec, "sketch": True}, "already holds all of them"),
    ):
        with pytest.raises(InvalidInput, match=message):
            dt.SurrogateIndex.create(cluster, f"{unique_name}-2", **given)  # type: ignore[call-overload]
