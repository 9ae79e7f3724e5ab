"""Native comparison in the life of an index: creation, documents of other producers, migration and other indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deepterms as dt
from deepterms.cli.app import app
from deepterms.doctor import examine
from deepterms.encoders.pivots.pivots import Pivots
from deepterms.errors import IndexNotFound, InvalidInput, RequestRejected, UnsupportedEngine
from deepterms.migration import migrate, repivot_encoder, roll_back
from deepterms.schema import scripts
from deepterms.schema.layouts import find_layout

DIMENSIONS = 32
ROWS = np.random.default_rng(5).standard_normal((60, DIMENSIONS)).astype(np.float32)
IDS = [f"d{number}" for number in range(len(ROWS))]
ENCODER = dt.PivotPermutation(Pivots(ROWS[:16]), top_k=3, query_top_k=6)


def created(client: Any, name: str, **options: Any) -> dt.SurrogateIndex:
    dt.deploy(client)
    index = dt.SurrogateIndex.create(client, name, **{"encoder": ENCODER, "replicas": 0, **options})
    assert index.add(IDS, ROWS, [{"n": number} for number in range(len(ROWS))]).failed == ()
    index.refresh()
    return index


def scores(index: dt.SurrogateIndex) -> dict[str, float]:
    return {hit.id: round(hit.score, 5) for hit in index.search(ROWS[3], k=len(ROWS), rerank=len(ROWS))}


def read_field(index: dt.SurrogateIndex) -> str:
    """Return the type of the field of vectors."""
    (answer,) = index.cluster.request("GET", f"/{index.name}/_mapping").values()
    return str(answer["mappings"]["properties"]["vector"]["type"])


def test_each_engine_gets_what_it_can_do(cluster: Any, unique_name: str) -> None:
    index = created(cluster, unique_name)
    native = index.cluster.engine.name == "elasticsearch"
    opened = dt.SurrogateIndex.open(cluster, unique_name)
    for one in (index, opened):
        assert (one.compare, one.vector_type) == (("native", "int8") if native else ("script", "float32"))
    assert read_field(index) == ("dense_vector" if native else "binary")
    if not native:
        with pytest.raises(UnsupportedEngine, match=r"needs Elasticsearch 9\.2 or later"):
            dt.SurrogateIndex.create(cluster, f"{unique_name}-b", encoder=ENCODER, compare="native")
        with pytest.raises(UnsupportedEngine, match=r"needs Elasticsearch 9\.2 or later"):
            migrate(cluster, unique_name, compare="native")


def test_a_spec_is_reused_and_refused_by_the_other_engine(
    elasticsearch: Any, opensearch: Any, unique_name: str
) -> None:
    index = created(elasticsearch, unique_name)
    again = dt.SurrogateIndex.create(elasticsearch, f"{unique_name}-b", spec=index.spec, replicas=0)
    assert again.spec == index.spec
    dt.deploy(opensearch)
    with pytest.raises(UnsupportedEngine, match="compare='native'"):
        dt.SurrogateIndex.create(opensearch, unique_name, spec=index.spec)


def test_documents_of_other_producers_are_checked_one_by_one(elasticsearch: Any, unique_name: str) -> None:
    index = created(elasticsearch, unique_name)
    terms = ENCODER.encode(ROWS[:1]).to_terms()[0]
    bad: dict[str, tuple[object, str]] = {
        "list": ([1.0] * 31, "expected hexadecimal text of 32 signed bytes, 64 characters"),
        "short": ("00ff", "expected hexadecimal text of 32 signed bytes"),
        "base64": ("AAAA" * 44, "expected hexadecimal text of 32 signed bytes"),
        "object": ({"a": 1}, "expected hexadecimal text of 32 signed bytes"),
        "letters": ("zz" * 32, "not a hexadecimal digit"),
        "zeros": ("00" * 32, "zero magnitude"),
    }
    for identifier, (wrong, why) in bad.items():
        with pytest.raises(RequestRejected, match=why):
            index.cluster.request("PUT", f"/{unique_name}/_doc/{identifier}", body={"terms": terms, "vector": wrong})
    with pytest.raises(RequestRejected, match="vector_bytes"):  # a copy of _source, which holds no vectors
        index.cluster.request("PUT", f"/{unique_name}/_doc/copy", body={"terms": terms, "vector_bytes": DIMENSIONS})
    levels = np.rint(ROWS[0] / np.abs(ROWS[0]).max() * 126).astype(np.int8)
    good: dict[str, object] = {"hex": levels.tobytes().hex(), "numbers": levels.tolist(), "none": None}
    for identifier, vector in good.items():
        body = {"terms": terms, "vector": vector, "native_vector": "x"}
        index.cluster.request("PUT", f"/{unique_name}/_doc/{identifier}", body=body)
    index.refresh()
    found = {hit.id: hit.score for hit in index.search(ROWS[0], k=100)}
    assert found["hex"] == found["numbers"] == found["d0"] == pytest.approx(1, abs=1e-3)
    assert found["none"] == pytest.approx(-1)
    assert not found.keys() & bad.keys()


def test_vectors_are_stored_once_and_not_in_source(elasticsearch: Any, unique_name: str) -> None:
    index = created(elasticsearch, unique_name)
    answer = index.cluster.request("GET", f"/{unique_name}/_doc/d3")["_source"]
    assert answer.keys() == {"terms", "vector_bytes", "metadata"}
    assert answer["vector_bytes"] == DIMENSIONS
    report = index.update_metadata(["d3"], [{"n": -1}])
    index.refresh()
    document = index.get("d3")
    assert report.succeeded == 1
    assert document is not None
    assert document.vector is not None
    assert document.metadata == {"n": -1}
    assert document.vector @ ROWS[3] == pytest.approx(np.linalg.norm(ROWS[3]), rel=1e-3)
    assert index.add(["d3"], ROWS[:1], revisions=[document.revision]).failed == ()
    assert index.add(["d3"], ROWS[:1], revisions=[document.revision]).failed != ()


def test_a_partial_update_loses_no_vector_unnoticed(elasticsearch: Any, unique_name: str) -> None:
    """The engine fills the vector in again; were it lost, the pipeline would reject the document."""
    index = created(elasticsearch, unique_name)
    index.cluster.request("POST", f"/{unique_name}/_update/d3", body={"doc": {"metadata": {"n": 7}}})
    index.refresh()
    assert scores(index)["d3"] == pytest.approx(1, abs=1e-3)


def test_migration_to_and_from_scripts(elasticsearch: Any, unique_name: str) -> None:
    index = created(elasticsearch, unique_name, compare="script", shards=2)
    assert index.add_terms(["bare"], ENCODER.encode(ROWS[:1])).failed == ()
    index.refresh()
    before = scores(index)
    with pytest.raises(InvalidInput, match="compare is 'fast'"):
        migrate(elasticsearch, unique_name, compare="fast")  # type: ignore[arg-type]
    assert migrate(elasticsearch, unique_name, compare="native").copied == len(ROWS) + 1
    native = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (native.compare, native.vector_type, read_field(native)) == ("native", "int8", "dense_vector")
    assert scores(native) == pytest.approx(before, abs=2e-3)  # int8
    assert scores(index) == scores(native)  # the old handle follows
    assert native.verify(sample=60).ok
    assert migrate(elasticsearch, unique_name, compare="native").old == ""  # nothing to do
    assert native.delete(["bare"]).failed == ()  # new pivots need vectors
    vectors = [native.get(identifier).vector for identifier in IDS]  # type: ignore[union-attr]
    # Another number of shards keeps the comparison; new pivots are sampled from the vectors.
    migrate(elasticsearch, unique_name, shards=1, encoder=repivot_encoder(elasticsearch, unique_name, 12))
    again = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (again.compare, again.encoder.vocabulary_size) == ("native", 12)
    migrate(elasticsearch, unique_name, compare="script", drop=True)
    script = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (script.compare, script.vector_type, read_field(script)) == ("script", "int8", "binary")
    for identifier, vector in zip(IDS, vectors, strict=True):
        assert np.array_equal(script.get(identifier).vector, vector)  # type: ignore[union-attr,arg-type]
    migrate(elasticsearch, unique_name, compare="native")
    roll_back(elasticsearch, unique_name)
    assert dt.SurrogateIndex.open(elasticsearch, unique_name).compare == "script"
    assert index.reopen()
    assert index.compare == "script"


def test_a_layout_or_encoder_without_it_returns_to_scripts(elasticsearch: Any, unique_name: str) -> None:
    created(elasticsearch, unique_name)
    migrate(elasticsearch, unique_name, to=find_layout("words"))
    words = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (words.compare, words.vector_type) == ("script", "int8")
    assert words.verify(sample=30).ok
    with pytest.raises(InvalidInput, match="in the layout words"):
        migrate(elasticsearch, unique_name, compare="native")
    migrate(elasticsearch, unique_name, to=find_layout("codewords"), compare="native")
    migrate(elasticsearch, unique_name, encoder=dt.DeepPermutation(DIMENSIONS, top_k=8, binary=True))
    other = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (other.compare, other.encoder.max_term_frequency) == ("script", 1)
    assert other.verify(sample=30).ok


def test_handles_follow_a_name_between_comparisons(elasticsearch: Any, unique_name: str) -> None:
    """A query for native vectors finds nothing in an index of binary ones, and the other way round."""
    handle = created(elasticsearch, unique_name)
    changes: list[dict[str, Any]] = [{"compare": "script"}, {}, {"encoder": dt.DeepPermutation(48, top_k=8)}, {}]
    for options in changes:
        handle_before = dt.SurrogateIndex.open(elasticsearch, unique_name)
        handle_before.drop()
        dimensions = options["encoder"].dimensions if "encoder" in options else DIMENSIONS
        rows = np.random.default_rng(6).standard_normal((40, dimensions)).astype(np.float32)
        index = dt.SurrogateIndex.create(elasticsearch, unique_name, **{"encoder": ENCODER, "replicas": 0, **options})
        assert index.add([f"e{row}" for row in range(40)], rows).failed == ()
        index.refresh()
        for old in (handle, handle_before):
            assert old.search(rows[0]).ids[0] == "e0"
            assert [hits.ids[0] for hits in old.search_many(rows[:3])] == ["e0", "e1", "e2"]
            assert old.get("e3") is not None
    handle.drop()
    with pytest.raises(IndexNotFound):
        handle.search(ROWS[0])


def test_what_reads_vectors_reads_native_ones(elasticsearch: Any, unique_name: str, tmp_path: Path) -> None:
    index = created(elasticsearch, unique_name)
    store = dt.export_features(index, tmp_path / "store")
    exported = store.features_of(IDS)
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    np.testing.assert_allclose((exported * unit).sum(axis=1), 1, atol=1e-3)
    stats = index.stats()
    reference = dt.MemoryIndex(ENCODER, compare="native")
    reference.add(IDS, ROWS)
    assert stats.documents == len(ROWS)
    assert stats.postings_per_query == pytest.approx(reference.stats().postings_per_query)
    found = [finding for finding in examine(elasticsearch, name=unique_name) if finding.subject == unique_name]
    assert any("pivots" in finding.text for finding in found)
    assert not [finding for finding in found if finding.level == "red"]
    assert index.explain("d3", ROWS[3]).agrees
    assert len(list(index.search_all(ROWS[3], page=7))) == len(scores(index))
    assert index.reconcile(IDS).equal


def test_a_server_without_the_function_is_recognised(
    elasticsearch: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dt.deploy(elasticsearch)
    source = scripts.COSINE_SOURCES["native"].replace("cosineSimilarity", "noSimilarity")
    monkeypatch.setattr(scripts, "COSINE_SOURCES", {**scripts.COSINE_SOURCES, "native": source})
    with pytest.raises(UnsupportedEngine, match="pass compare='script'"):
        dt.SurrogateIndex.create(elasticsearch, unique_name, encoder=ENCODER)
    with pytest.raises(IndexNotFound):
        dt.SurrogateIndex.open(elasticsearch, unique_name)


def test_the_command_line_chooses_and_changes_it(
    elasticsearch: Any, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (address,) = (node.base_url for node in elasticsearch.transport.node_pool.all())
    monkeypatch.setenv("DEEPTERMS_URL", address)
    rows = np.random.default_rng(1).standard_normal((600, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids.txt").write_text("\n".join(f"a{row}" for row in range(len(rows))), encoding="utf-8")

    def run(*arguments: str) -> None:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output

    source = [unique_name, str(tmp_path / "rows.npy"), "--ids", str(tmp_path / "ids.txt"), "--replicas", "0"]
    run("index", *source, "--encoder", "auto")
    assert dt.SurrogateIndex.open(elasticsearch, unique_name).compare == "native"
    run("migrate", unique_name, "--compare", "script")
    index = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert index.compare == "script"
    index.drop()
    run("index", *source, "--encoder", "auto", "--compare", "script")
    index = dt.SurrogateIndex.open(elasticsearch, unique_name)
    assert (index.compare, index.vector_type) == ("script", "float32")
