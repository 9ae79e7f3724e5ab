from __future__ import annotations

from typing import Any

import pytest

from deepterms.cluster.cluster import Engine
from deepterms.deployment import Change
from deepterms.doctor import findings
from deepterms.schema.assets import list_assets
from deepterms.schema.index_spec import IndexMeta
from deepterms.schema.layouts import find_layout

OPENSEARCH, ELASTICSEARCH = Engine("opensearch", (3, 8, 0)), Engine("elasticsearch", (9, 2, 0))
META = IndexMeta(layout="words", version=1, encoder={})


def copied(**more: bool) -> IndexMeta:
    return META.model_copy(update={"migration": {"from": "b", **more}})


GIGABYTE = 10**9


def node(*, heap: int = 50, free: int = 50, roles: tuple[str, ...] = ("data", "ingest")) -> dict[str, Any]:
    return {
        "name": f"n{heap}-{free}",
        "roles": list(roles),
        "jvm": {"mem": {"heap_used_percent": heap, "heap_max_in_bytes": 4 * GIGABYTE}},
        "fs": {"total": {"total_in_bytes": 100 * GIGABYTE, "available_in_bytes": free * GIGABYTE}},
    }


def clause_settings(limit: str | None) -> dict[str, Any]:
    held = {} if limit is None else {"indices.query.bool.max_clause_count": limit}
    return {"transient": {}, "persistent": {}, "defaults": held}


def test_engine() -> None:
    assert (
        findings.judge_engine(OPENSEARCH).text
        == "OpenSearch 3.8.0; layouts frequencies, words, rank_features, codewords"
    )
    assert findings.judge_engine(ELASTICSEARCH).level == "green"
    old = findings.judge_engine(Engine("elasticsearch", (7, 17, 0)))
    assert (old.level, old.text) == ("red", "Elasticsearch 7.17.0 supports no layout")
    assert "Elasticsearch 8 or later" in old.advice


def test_resources() -> None:
    assets = list_assets([find_layout("words")])
    same = [Change(asset, "same", 1) for asset in assets]
    assert findings.judge_resources(same).text == f"all {len(assets)} templates and pipelines match this release"
    missing = findings.judge_resources([*same[1:], Change(assets[0], "missing")])
    assert (missing.level, missing.text) == ("red", "missing: deepterms-words-v1")
    assert missing.advice == "run `deepterms deploy`"
    differs = findings.judge_resources([*same[1:], Change(assets[0], "differs", 1, "diff")])
    assert (differs.level, differs.text) == ("yellow", "differs: deepterms-words-v1")


@pytest.mark.parametrize(
    ("engine", "limit", "largest", "level"),
    [
        (OPENSEARCH, "1024", 100, "green"),
        (OPENSEARCH, "1024", 1024, "green"),
        (OPENSEARCH, "1024", 1025, "red"),
        (OPENSEARCH, None, 100, "yellow"),
        (Engine("elasticsearch", (8, 0, 1)), "64", 100, "red"),
        (ELASTICSEARCH, None, 100, "green"),
        (ELASTICSEARCH, "64", 100, "green"),  # this version ignores the setting
        (ELASTICSEARCH, None, 2000, "yellow"),
    ],
)
def test_clauses(engine: Engine, limit: str | None, largest: int, level: str) -> None:
    found = findings.judge_clauses(engine, clause_settings(limit), largest=largest)
    assert found.level == level
    assert str(largest) in found.text + found.advice
    assert bool(found.advice) == (level != "green")


def test_cluster_settings_override_defaults() -> None:
    settings = clause_settings("1024") | {"persistent": {"indices.query.bool.max_clause_count": "90"}}
    assert findings.judge_clauses(OPENSEARCH, settings, largest=100).level == "red"


@pytest.mark.parametrize(("used", "level"), [(84, "green"), (85, "yellow"), (94, "yellow"), (95, "red")])
def test_heap_of_the_fullest_node(used: int, level: str) -> None:
    found = findings.judge_heap({"a": node(heap=10), "b": node(heap=used)})
    assert (found.level, found.text) == (level, f"{used}% of 4 GB used on n{used}-50")


@pytest.mark.parametrize(("free", "level"), [(15, "green"), (14, "yellow"), (5, "yellow"), (4, "red")])
def test_disk_of_the_fullest_data_node(free: int, level: str) -> None:
    nodes = {"a": node(free=60), "b": node(free=free), "manager": node(free=1, roles=("master",))}
    found = findings.judge_space(nodes)
    assert (found.level, found.text) == (level, f"{free} GB ({free}%) free on n50-{free}")


def test_unreported_disks() -> None:
    blind = node()
    blind["fs"]["total"] = {}
    assert findings.judge_space({"a": blind}).level == "yellow"


def test_ingest() -> None:
    assert findings.judge_ingest({"a": node(), "b": node(roles=("data",))}).text == "2 nodes, 1 with the ingest role"
    assert findings.judge_ingest({"b": node(roles=("data",))}).level == "red"


@pytest.mark.parametrize("state", ["green", "yellow", "red"])
def test_health(state: str) -> None:
    health = {"status": state, "active_primary_shards": 2, "unassigned_shards": 1, "initializing_shards": 2}
    found = findings.judge_health("photos", health)
    assert (found.level, found.subject) == (state, "photos")
    assert ("3 " in found.text) == (state != "green")


def test_blocks() -> None:
    assert findings.judge_writes("photos", {}) is None
    assert findings.judge_writes("photos", {"blocks": {"write": "false"}}) is None
    by_hand = findings.judge_writes("photos", {"blocks": {"write": "true"}})
    assert by_hand is not None
    assert (by_hand.level, by_hand.text) == ("yellow", "blocked: write")
    full = findings.judge_writes("photos", {"blocks": {"read_only_allow_delete": "true"}})
    assert full is not None
    assert full.level == "red"


def test_refresh() -> None:
    assert findings.judge_refresh("photos", {}).text == "refreshed every 1s, the default"
    assert findings.judge_refresh("photos", {"refresh_interval": "30s"}).level == "green"
    assert findings.judge_refresh("photos", {"refresh_interval": "-1"}).level == "yellow"


@pytest.mark.parametrize(
    ("segments", "deleted", "merging", "level"),
    [(100, 0, 0, "green"), (101, 0, 0, "yellow"), (101, 0, 1, "green"), (3, 400, 0, "green"), (3, 900, 0, "yellow")],
)
def test_segments(segments: int, deleted: int, merging: int, level: str) -> None:
    stats = {
        "docs": {"count": 1_000, "deleted": deleted},
        "segments": {"count": segments},
        "merges": {"current": merging},
        "store": {"size_in_bytes": 12_345_678},
    }
    found = findings.judge_segments("photos", stats, shards=2)
    assert found.level == level
    assert found.text.startswith(f"1,000 documents, 12.3 MB, {segments} segments")


def test_generations() -> None:
    assert findings.judge_generations("photos", {}, live="b") is None
    kept = findings.judge_generations("photos", {"a": META}, live="b")
    assert kept is not None
    assert (kept.level, kept.text[:22]) == ("green", "previous index kept: a")
    unfinished = findings.judge_generations("photos", {"c": copied()}, live="b")
    assert unfinished is not None
    assert (unfinished.level, unfinished.text) == ("yellow", "a migration to c is running or was interrupted")
    left = findings.judge_generations("photos", {"c": copied(left=True)}, live="b")
    assert left is not None
    assert left.level == "green"
