"""Tests of migrating indices with pivots on real clusters, and of `deepterms doctor` on pivots."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import deepterms as dt
from deepterms.cli.app import app
from deepterms.cluster.cluster import Cluster
from deepterms.doctor import Finding, examine
from deepterms.doctor.pivot_examination import examine_pivots
from deepterms.encoders.pivots.permutation import Spill
from deepterms.encoders.pivots.pivots import Reach
from deepterms.errors import ClusterUnreachable, InvalidInput, PivotsUnavailable
from deepterms.migration import drop_old, migrate, repivot_encoder, respill_encoder, roll_back
from deepterms.migration.generations import Generations
from deepterms.migration.repivoting import sample_vectors
from deepterms.schema.layouts import find_layout
from deepterms.storage.pivot_index import name_pivot_index, read_pivot_index_meta
from tests.integration.test_pivots import DIMENSIONS, client, elsewhere, encoder, filled, hits, list_pivot_indices, own

__all__ = ["client", "elsewhere"]  # fixtures

CENTRES = np.random.default_rng(4).standard_normal((40, DIMENSIONS))


def kinds(count: int, first: int, last: int, seed: int = 0) -> NDArray[np.float32]:
    """Generate descriptors of several kinds of images, each around one of 40 centres."""
    rng = np.random.default_rng(seed)
    centres = CENTRES[rng.integers(first, last, count)]
    return (centres + 0.25 * rng.standard_normal((count, DIMENSIONS))).astype(np.float32)


def health(index: dt.SurrogateIndex) -> list[Finding]:
    state = Generations.of(index.cluster, index.name)
    return list(examine_pivots(index.cluster, index.name, state.live, state.metas))


def test_pivots_are_kept_by_a_change_of_layout(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    pivots = dt.Pivots(encoder().pivots.features, reach=Reach(low=0.25, middle=0.5, rows=9))
    first = filled(client, unique_name, using=replace(encoder(), pivots=pivots))
    expected = hits(first)
    del first, pivots
    gc.collect()
    dt.SurrogateIndex.open(client, unique_name)
    gc.collect()  # so that only the cache file has them, which does not contain their reach
    report = migrate(client, unique_name, to=find_layout("words"))
    described = encoder().pivots.spec()
    assert read_pivot_index_meta(Cluster(client), report.new, described).read_reach() == Reach(0.25, 0.5, 9)
    elsewhere()
    index = dt.SurrogateIndex.open(client, unique_name)
    assert (index.layout.name, index.encoder, hits(index)) == ("words", encoder(), expected)
    assert len(list_pivot_indices(client, unique_name)) == 2  # each generation has its own
    roll_back(client, unique_name)
    assert drop_old(client, unique_name) == (report.new,)
    elsewhere()
    assert hits(dt.SurrogateIndex.open(client, unique_name)) == expected
    assert list_pivot_indices(client, unique_name) == [name_pivot_index(report.old, encoder().pivots.checksum)]


def test_repivoting_during_writes_and_searches(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    # Whole vectors, so that encoding them again equals encoding the originals.
    index = filled(client, unique_name, store_vectors="float32")
    rest = kinds(120, 0, 40, seed=2)
    failed: list[Any] = []
    stop = threading.Event()

    def write() -> None:
        other = dt.SurrogateIndex.open(client, unique_name)
        for number, feature in enumerate(rest):
            failed.extend(other.add([f"w{number}"], feature[np.newaxis]).failed)
            if stop.is_set() and number > 60:
                written.append(number + 1)
                return
        written.append(len(rest))

    written: list[int] = []
    writer = threading.Thread(target=write)
    writer.start()
    try:
        new = repivot_encoder(client, unique_name, 100)
        report = migrate(client, unique_name, encoder=new, drop=True)
    finally:
        stop.set()
        writer.join()
    assert failed == []
    assert isinstance(new, dt.PivotPermutation)
    assert (len(new.pivots), new.top_k, new.query_top_k) == (100, 4, 16)
    assert new.pivots.reach is not None
    index.refresh()
    elsewhere()
    moved = dt.SurrogateIndex.open(client, unique_name)
    assert moved.encoder == new != encoder()
    assert moved.count() == 80 + written[0]
    assert list_pivot_indices(client, unique_name) == [name_pivot_index(report.new, new.pivots.checksum)]
    # Equal to an index created with the new pivots; index objects opened before notice the change.
    memory = dt.MemoryIndex(new)
    memory.add([f"d{n}" for n in range(80)], np.random.default_rng(0).standard_normal((80, DIMENSIONS)))
    memory.add([f"w{n}" for n in range(written[0])], rest[: written[0]])
    query = kinds(1, 0, 40, seed=9)[0]
    scores = {hit.id: hit.score for hit in memory.search(query, k=300, rerank=0)}
    for one in (index, moved):
        assert {hit.id: hit.score for hit in one.search(query, k=300, rerank=0)} == scores


def test_an_interrupted_repivoting_resumes_with_its_pivots(
    client: Any, unique_name: str, elsewhere: Callable[[], None]
) -> None:
    index = filled(client, unique_name)
    new = repivot_encoder(client, unique_name, 30)

    def cut(done: int, total: int) -> None:
        raise ClusterUnreachable("cut")

    with pytest.raises(ClusterUnreachable):
        migrate(client, unique_name, encoder=new, on_progress=cut)
    index.add(["more"], kinds(1, 0, 40))  # a new sample would differ
    index.refresh()
    elsewhere()
    again = repivot_encoder(client, unique_name, 30)
    assert again == new
    report = migrate(client, unique_name, encoder=again)
    assert (report.documents, report.new[-6:]) == (81, "000002")
    assert repivot_encoder(client, unique_name, 30) != new  # that migration is finished


def test_lost_pivots_are_replaced(client: Any, unique_name: str, elsewhere: Callable[[], None]) -> None:
    index = filled(client, unique_name, store_vectors="int8")
    Cluster(client).request("DELETE", f"/{own(index)}")
    (broken,) = health(index)
    assert (broken.level, broken.subject) == ("red", unique_name)
    assert f"there is no index {own(index)}" in broken.text
    assert f"deepterms migrate {unique_name} --repivot 64" in broken.advice
    elsewhere()
    with pytest.raises(PivotsUnavailable):
        dt.SurrogateIndex.open(client, unique_name)
    migrate(client, unique_name, encoder=repivot_encoder(client, unique_name, 64), drop=True)
    repaired = dt.SurrogateIndex.open(client, unique_name)
    assert len(hits(repaired)[0]) == 10
    assert {finding.level for finding in health(repaired)} == {"green"}


@pytest.mark.parametrize(
    ("using", "options", "why"),
    [
        (dt.DeepPermutation(DIMENSIONS, top_k=4, binary=True), {}, "has no pivots to replace"),
        (encoder(), {"store_vectors": False}, "stores no vectors"),
        (dt.PivotPermutation(dt.Pivots(np.eye(DIMENSIONS), metric="l2"), top_k=2, query_top_k=2), {}, "normalised"),
    ],
)
def test_indices_that_cannot_be_repivoted(
    client: Any, unique_name: str, using: dt.Encoder, options: dict[str, Any], why: str
) -> None:
    filled(client, unique_name, using=using, **options)
    with pytest.raises(InvalidInput, match=why):
        repivot_encoder(client, unique_name, 10)


@pytest.mark.parametrize(("old", "new"), [("nearest", "soar"), ("soar", "nearest")])
def test_another_spill_gives_the_words_of_a_new_index(
    client: Any, unique_name: str, elsewhere: Callable[[], None], old: Spill, new: Spill
) -> None:
    before = replace(encoder(), spill=old)
    index = filled(client, unique_name, using=before, rerank=70, store_vectors="float32")  # int8 moves a pivot or two
    wanted = respill_encoder(client, unique_name, new)
    assert wanted == replace(before, spill=new) != before
    report = migrate(client, unique_name, encoder=wanted, drop=True)
    assert (report.documents, report.copied) == (80, 80)
    elsewhere()
    moved = dt.SurrogateIndex.open(client, unique_name)
    assert (moved.encoder, moved.rerank) == (wanted, 70)
    assert respill_encoder(client, unique_name, new) == wanted
    fresh = filled(client, f"{unique_name}-fresh", using=wanted, store_vectors="float32")
    memory = dt.MemoryIndex(wanted)
    memory.add([f"d{n}" for n in range(80)], np.random.default_rng(0).standard_normal((80, DIMENSIONS)))
    query = kinds(1, 0, 40, seed=9)[0]
    scores = {hit.id: hit.score for hit in memory.search(query, k=300, rerank=0)}
    for one in (index, moved, fresh):
        assert {hit.id: hit.score for hit in one.search(query, k=300, rerank=0)} == scores
    differing = dt.MemoryIndex(before)
    differing.add([f"d{n}" for n in range(80)], np.random.default_rng(0).standard_normal((80, DIMENSIONS)))
    assert {hit.id: hit.score for hit in differing.search(query, k=300, rerank=0)} != scores
    described = moved.explain("d3", query)
    assert (described.score, described.document_codewords, described.agrees) == (scores.get("d3", 0), 4, True)
    assert moved.verify().ok
    assert moved.stats().terms_per_document == 4
    assert {finding.level for finding in health(moved)} == {"green"}
    fresh.drop()


def test_new_pivots_and_another_spill(client: Any, unique_name: str) -> None:
    filled(client, unique_name, using=encoder(spill="nearest"))
    new = repivot_encoder(client, unique_name, 50, spill="soar")
    kept = repivot_encoder(client, unique_name, 50)
    assert isinstance(new, dt.PivotPermutation)
    assert isinstance(kept, dt.PivotPermutation)
    assert (new.spill, kept.spill, new.pivots) == ("soar", "nearest", kept.pivots)

    def cut(done: int, total: int) -> None:
        raise ClusterUnreachable("cut")

    with pytest.raises(ClusterUnreachable):
        migrate(client, unique_name, encoder=new, on_progress=cut)
    dt.SurrogateIndex.open(client, unique_name).add(["more"], kinds(1, 0, 40))  # a new sample would differ
    dt.SurrogateIndex.open(client, unique_name).refresh()
    assert repivot_encoder(client, unique_name, 50, spill="soar") == new
    other = repivot_encoder(client, unique_name, 50, spill="nearest")
    assert isinstance(other, dt.PivotPermutation)
    assert other.pivots != new.pivots


@pytest.mark.parametrize(
    ("using", "options", "why"),
    [
        (dt.DeepPermutation(DIMENSIONS, top_k=4, binary=True), {}, "is 'deep_permutation'; only a pivot_permutation"),
        (dt.PivotPairs(encoder().pivots), {}, "is 'pivot_pairs'; only a pivot_permutation"),
        (encoder(weights="ranks"), {"layout": "words"}, "have ranks, which are those of the nearest pivots"),
        (encoder(spill="nearest"), {"store_vectors": False}, "stores no vectors"),
        (
            dt.PivotPermutation(dt.Pivots(np.eye(DIMENSIONS), metric="l2"), top_k=2, query_top_k=2, spill="nearest"),
            {},
            "metric l2, but its stored vectors are normalised",
        ),
    ],
)
def test_indices_that_cannot_spill(
    client: Any, unique_name: str, using: dt.Encoder, options: dict[str, Any], why: str
) -> None:
    filled(client, unique_name, using=using, **options)
    with pytest.raises(InvalidInput, match=why):
        respill_encoder(client, unique_name, "soar")


def test_sampling_stored_vectors(client: Any, unique_name: str) -> None:
    """Each document has the same probability, whatever its position in the index."""
    index = dt.SurrogateIndex.create(client, unique_name, encoder=encoder(), layout="codewords", shards=2, replicas=0)
    rows = kinds(2_000, 0, 40)
    assert index.add([str(n) for n in range(len(rows))], rows).failed == ()
    index.refresh()
    (concrete,) = index.concrete
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    places = []
    for seed in range(4):
        drawn = sample_vectors(index.cluster, concrete, 200, dimensions=DIMENSIONS, vector_type="float32", seed=seed)
        assert drawn.shape == (200, DIMENSIONS)
        similar = drawn @ units.T
        assert similar.max(axis=1) == pytest.approx(np.ones(200), abs=1e-3)  # int8
        places += [int(place) for place in similar.argmax(axis=1)]
    assert len(set(places)) > 600  # of 800, since samples differ
    assert 0.4 < np.mean(np.array(places) < 1_000) < 0.6
    everything = sample_vectors(index.cluster, concrete, 5_000, dimensions=DIMENSIONS, vector_type="float32")
    assert everything.shape == (2_000, DIMENSIONS)


@pytest.mark.parametrize("known", [True, False])
def test_the_doctor_notices_new_kinds_of_images(client: Any, unique_name: str, known: bool) -> None:
    """With the stored reach of the pivots, or with that of the first documents."""
    first = kinds(1_500, 0, 20)
    pivots = dt.sample_pivots(first, 200)
    using = dt.PivotPermutation(pivots if known else dt.Pivots(pivots.features), top_k=4, query_top_k=16)
    index = dt.SurrogateIndex.create(client, unique_name, encoder=using, layout="codewords", replicas=0)
    assert index.add([f"a{n}" for n in range(len(first))], first).failed == ()
    index.refresh()
    whole, lists, reach = health(index)
    assert [finding.level for finding in (whole, lists, reach)] == ["green"] * 3
    assert index.add([f"b{n}" for n in range(6_000)], kinds(6_000, 38, 40, seed=1)).failed == ()
    index.refresh()
    whole, lists, reach = health(index)
    assert [finding.level for finding in (whole, lists, reach)] == ["green", "yellow", "yellow"]
    assert f"deepterms migrate {unique_name} --repivot 200" in lists.advice
    assert f"deepterms migrate {unique_name} --repivot 200" in reach.advice
    migrate(client, unique_name, encoder=repivot_encoder(client, unique_name, 200), drop=True)
    _, _, reach = health(dt.SurrogateIndex.open(client, unique_name))
    assert reach.level == "green"


def test_the_doctor_examines_pivot_indices(client: Any, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(client, unique_name)
    (concrete,) = index.concrete
    request = Cluster(client).request
    orphan = name_pivot_index(concrete.replace("000001", "000007"), "0" * 64)
    others = name_pivot_index(concrete, "0" * 64)  # left by a creator that lost a race
    for one in (orphan, others):
        request("PUT", f"/{one}", body={"mappings": {"_meta": {}}})
    request("DELETE", f"/{own(index)}/_doc/3")
    monkeypatch.setattr("deepterms.doctor.examination.LAYOUTS", ())  # no probes
    found = examine(client, unique_name)
    (damaged,) = [finding for finding in found if finding.level == "red"]
    assert "chunk 3 of 7 is missing" in damaged.text
    (lonely,) = [finding for finding in found if finding.subject == "pivots"]
    assert (lonely.level, lonely.text) == ("yellow", f"not used by any index: {', '.join(sorted([orphan, others]))}")
    index.drop()
    assert list_pivot_indices(client, unique_name) == []


def test_the_command(client: Any, url: str, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(client, unique_name)
    monkeypatch.setenv("DEEPTERMS_URL", url)
    done = CliRunner().invoke(app, ["migrate", unique_name, "--repivot", "40", "--drop-old"])
    assert done.exit_code == 0, done.output
    index = dt.SurrogateIndex.open(client, unique_name)
    assert index.encoder.vocabulary_size == 40
    assert len(list_pivot_indices(client, unique_name)) == 1
    rejected = CliRunner().invoke(app, ["migrate", unique_name, "--repivot", "40", "--top-k", "3"])
    assert rejected.exit_code == 2


def test_the_command_with_a_spill(client: Any, url: str, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(client, unique_name, using=encoder(spill="nearest"))
    monkeypatch.setenv("DEEPTERMS_URL", url)
    done = CliRunner().invoke(app, ["migrate", unique_name, "--spill", "soar", "--drop-old"])
    assert done.exit_code == 0, done.output
    assert dt.SurrogateIndex.open(client, unique_name).encoder == encoder(spill="soar")
    again = CliRunner().invoke(app, ["migrate", unique_name, "--spill", "soar"])
    assert "already as requested" in again.output
    both = CliRunner().invoke(app, ["migrate", unique_name, "--repivot", "40", "--spill", "nearest"])
    assert both.exit_code == 0, both.output
    moved = dt.SurrogateIndex.open(client, unique_name).encoder
    assert isinstance(moved, dt.PivotPermutation)
    assert (len(moved.pivots), moved.spill) == (40, "nearest")
    rejected = CliRunner().invoke(app, ["migrate", unique_name, "--spill", "soar", "--top-k", "3"])
    assert rejected.exit_code == 2
