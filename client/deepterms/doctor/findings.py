"""Findings: from an engine's responses to what they mean for search by surrogate text. Sends no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deepterms.cluster.cluster import Engine
from deepterms.deployment import Change
from deepterms.schema.index_spec import IndexMeta
from deepterms.schema.layouts import LAYOUTS
from deepterms.units import format_bytes

__all__ = [
    "Finding",
    "judge_clauses",
    "judge_closed",
    "judge_engine",
    "judge_generations",
    "judge_health",
    "judge_heap",
    "judge_ingest",
    "judge_missing_pipeline",
    "judge_nameless",
    "judge_orphaned_pipelines",
    "judge_refresh",
    "judge_resources",
    "judge_segments",
    "judge_space",
    "judge_writes",
]

Level = Literal["green", "yellow", "red"]

HEAP_YELLOW, HEAP_RED = 85, 95  # percent used; the parent circuit breaker of both engines trips at 95
# The watermarks of both engines: below 15% free, no more shards are allocated; below 5%, indices become read-only.
FREE_YELLOW, FREE_RED = 15, 5
SEGMENTS_YELLOW = 50  # per shard: a query looks every codeword up in the dictionary of every segment
DELETED_YELLOW = 30  # percent of documents that are deleted but not yet merged away
# From 8.1, Elasticsearch derives its limit from the heap, and never sets it below this.
MIN_AUTOMATIC_CLAUSES = 1024


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        level: ``green``: in order; ``yellow``: works, but needs attention; ``red``: does not work.
        subject: what was examined.
        text: what was found.
        advice: what to do; empty if green.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


def judge_engine(engine: Engine) -> Finding:
    """Judge which layouts the engine supports."""
    layouts = [layout.name for layout in LAYOUTS if layout.runs_on(engine)]
    if not layouts:
        advice = "use Elasticsearch 8 or later, or OpenSearch 2 or later"
        return Finding("red", "engine", f"{engine} supports no layout", advice)
    return Finding("green", "engine", f"{engine}; layouts {', '.join(layouts)}")


def judge_resources(changes: Sequence[Change]) -> Finding:
    """Judge whether templates and pipelines match this release."""
    overridden = [change.overridden for change in changes if change.overridden]
    if overridden:
        text, _, advice = overridden[0].partition("; ")
        more = f"; {_count(len(overridden) - 1, 'more template')} likewise" if overridden[1:] else ""
        return Finding("red", "templates", f"no index can be created: {text}{more}", advice)
    by_state: dict[str, list[str]] = {}
    for change in changes:
        by_state.setdefault(change.state, []).append(change.asset.name)
    wrong = {state: names for state, names in by_state.items() if state != "same"}
    if not wrong:
        return Finding("green", "templates", f"all {len(changes)} templates and pipelines match this release")
    text = "; ".join(f"{state}: {', '.join(sorted(set(names)))}" for state, names in sorted(wrong.items()))
    if "missing" in wrong:
        return Finding("red", "templates", text, "run `deepterms deploy`")
    return Finding("yellow", "templates", text, "run `deepterms check` to see the differences")


def judge_clauses(engine: Engine, settings: Mapping[str, Any], *, largest: int) -> Finding:
    """Judge whether the engine's limit of clauses per query admits the longest query.

    Args:
        engine: the engine.
        settings: its cluster settings, flat, with defaults.
        largest: the number of codewords in the longest query of the indices.
    """
    name = "indices.query.bool.max_clause_count"
    found = next(
        (settings[kind][name] for kind in ("transient", "persistent", "defaults") if name in settings[kind]), ""
    )
    automatic = engine.name == "elasticsearch" and engine.version >= (8, 1, 0)
    if automatic:
        if largest > MIN_AUTOMATIC_CLAUSES:
            text = f"at least {MIN_AUTOMATIC_CLAUSES}, derived from the heap; queries have up to {largest} clauses"
            advice = "if queries fail with too_many_clauses, increase the heap"
            return Finding("yellow", "clause limit", text, advice)
        text = f"at least {MIN_AUTOMATIC_CLAUSES}, set by the engine; queries have up to {largest} clauses"
        return Finding("green", "clause limit", text)
    if not str(found).isdecimal():
        return Finding(
            "yellow", "clause limit", "not reported by the engine", f"make sure that {name} is at least {largest}"
        )
    if int(found) < largest:
        advice = f"set {name} to at least {2 * largest}, or migrate to a smaller top_k"
        return Finding(
            "red", "clause limit", f"{found}, but queries have up to {largest} clauses and will be rejected", advice
        )
    return Finding("green", "clause limit", f"{found}; queries have up to {largest} clauses")


def judge_heap(nodes: Mapping[str, Any]) -> Finding:
    """Judge the heap of the fullest node, from node statistics."""
    used, name = max((int(node["jvm"]["mem"]["heap_used_percent"]), str(node["name"])) for node in nodes.values())
    largest = max(int(node["jvm"]["mem"]["heap_max_in_bytes"]) for node in nodes.values())
    text = f"{used}% of {format_bytes(largest)} used on {name}"
    if used < HEAP_YELLOW:
        return Finding("green", "heap", text)
    advice = (
        "garbage collection may be due, so check again in a minute; if it stays high, add heap or send smaller bulks"
    )
    return Finding("red" if used >= HEAP_RED else "yellow", "heap", text, advice)


def judge_space(nodes: Mapping[str, Any]) -> Finding:
    """Judge the disk of the fullest data node, from node statistics."""
    data = [node for node in nodes.values() if _holds_data(node)]
    disks = [(node["fs"]["total"], str(node["name"])) for node in data if node["fs"]["total"].get("total_in_bytes")]
    if not disks:
        return Finding("yellow", "disk", "no data node reports its disk usage", "check the disks with other tools")
    total, name = min(disks, key=lambda disk: float(disk[0]["available_in_bytes"] / disk[0]["total_in_bytes"]))
    free = 100 * total["available_in_bytes"] / total["total_in_bytes"]
    text = f"{format_bytes(total['available_in_bytes'])} ({free:.0f}%) free on {name}"
    if free >= FREE_YELLOW:
        return Finding("green", "disk", text)
    if free >= FREE_RED:
        advice = "free or add space: the engine allocates no shards below 15% and makes indices read-only below 5%"
        return Finding("yellow", "disk", text, advice)
    return Finding("red", "disk", text, "free or add space now: below 5% the engine makes indices read-only")


def judge_ingest(nodes: Mapping[str, Any]) -> Finding:
    """Judge whether any node can run ingest pipelines."""
    able = sum("ingest" in node.get("roles", ()) for node in nodes.values())
    if able:
        return Finding("green", "nodes", f"{_count(len(nodes), 'node')}, {able} with the ingest role")
    return Finding(
        "red", "nodes", f"{_count(len(nodes), 'node')}, none with the ingest role", "add ingest to node.roles of a node"
    )


def judge_health(name: str, health: Mapping[str, Any]) -> Finding:
    """Judge whether all shards of an index are available."""
    state = str(health["status"])
    text = f"health {state}, {_count(health['active_primary_shards'], 'active primary shard')}"
    if state == "green":
        return Finding("green", name, text)
    missing = health["unassigned_shards"] + health["initializing_shards"]
    if state == "yellow":
        advice = "add a node, or set number_of_replicas to 0 and accept that losing a disk loses the index"
        return Finding("yellow", name, f"{text}; {_count(missing, 'replica')} not available", advice)
    advice = "run GET _cluster/allocation/explain to see why; restore from a snapshot if the disk is lost"
    return Finding("red", name, f"{text}; {_count(missing, 'shard')} not available, so documents are missing", advice)


def judge_closed(name: str, live: str) -> Finding:
    """Judge a closed index, which can be neither read nor written."""
    return Finding("red", name, f"{live} is closed, so it can be neither read nor written", f"run POST /{live}/_open")


def judge_nameless(name: str, metas: Mapping[str, IndexMeta]) -> Finding:
    """Judge indices of a name that does not exist, because somebody removed it or a creation was interrupted."""
    advice = (
        f"if {name} is not being created right now, create it again with the same options, which finishes an empty "
        f"index, point the alias {name} to it, or delete it with SurrogateIndex.drop_name(client, {name!r})"
    )
    return Finding("yellow", name, f"no alias points to {', '.join(sorted(metas))}", advice)


def judge_missing_pipeline(name: str, pipeline: str) -> Finding:
    """Judge an index whose own pipeline is gone, so that the engine rejects whatever is written."""
    advice = "SurrogateIndex.open_or_create with the options of the index puts it again"
    return Finding("red", name, f"its pipeline {pipeline} is missing, so every document is rejected", advice)


def judge_orphaned_pipelines(names: Sequence[str]) -> Finding:
    """Judge pipelines whose index does not exist.

    Args:
        names: the names of the indices.
    """
    advice = f"run SurrogateIndex.drop_name(client, {names[0]!r}), unless it is being created right now"
    text = f"left over from indices that were deleted: {', '.join(names)}"
    return Finding("yellow", "pipelines", text, advice)


def judge_writes(name: str, settings: Mapping[str, Any]) -> Finding | None:
    """Judge the write blocks of an index; None if there are none."""
    blocks = {key for key, value in settings.get("blocks", {}).items() if str(value) == "true"}
    if "read_only_allow_delete" in blocks:
        advice = "free or add disk space; the engine then removes the block"
        return Finding("red", name, "read-only, because a disk was nearly full", advice)
    if blocks & {"write", "read_only"}:
        advice = (
            f"if a migration was interrupted, rerun it, or run `deepterms migrate {name} --drop-old`; otherwise unset "
            "index.blocks"
        )
        return Finding("yellow", name, f"blocked: {', '.join(sorted(blocks))}", advice)
    return None


def judge_refresh(name: str, settings: Mapping[str, Any]) -> Finding:
    """Judge when new documents become visible."""
    interval = str(settings.get("refresh_interval", "1s, the default"))
    if interval == "-1":
        advice = "set index.refresh_interval to null after bulk loading"
        return Finding("yellow", name, "automatic refresh is off, so searches do not find new documents", advice)
    return Finding("green", name, f"refreshed every {interval}")


def judge_segments(name: str, stats: Mapping[str, Any], *, shards: int) -> Finding:
    """Judge whether an index needs a merge.

    Args:
        name: name of the index.
        stats: statistics of its primaries: docs, segments, merges, store.
        shards: the number of primary shards.
    """
    documents, deleted = int(stats["docs"]["count"]), int(stats["docs"]["deleted"])
    segments, merging = int(stats["segments"]["count"]), int(stats["merges"]["current"])
    size = format_bytes(stats["store"]["size_in_bytes"])
    text = f"{_count(documents, 'document')}, {size}, {_count(segments, 'segment')}"
    text += f", {_count(merging, 'merge')} running" if merging else ""
    gone = 100 * deleted / max(1, documents + deleted)
    if segments > SEGMENTS_YELLOW * shards and not merging:
        advice = f"once writing is finished, run POST {name}/_forcemerge?max_num_segments=1"
        return Finding("yellow", name, text, advice)
    if gone > DELETED_YELLOW and documents + deleted > 1_000 and not merging:
        advice = f"run POST {name}/_forcemerge?only_expunge_deletes=true to reclaim their space"
        return Finding("yellow", name, f"{text}; deleted documents make up {gone:.0f}%", advice)
    return Finding("green", name, text)


def judge_generations(name: str, others: Mapping[str, IndexMeta], *, live: str) -> Finding | None:
    """Judge earlier or unfinished indices of a name; None if there are none.

    Args:
        name: the alias.
        others: concrete index → its metadata.
        live: the concrete index that the alias points to.
    """
    if not others:
        return None
    unfinished = [
        concrete
        for concrete, meta in others.items()
        if meta.migration.get("from") == live and "left" not in meta.migration
    ]
    if unfinished:
        advice = f"if none is running, rerun it to resume, or run `deepterms migrate {name} --drop-old` to discard it"
        return Finding("yellow", name, f"a migration to {', '.join(unfinished)} is running or was interrupted", advice)
    text = f"previous {'index' if len(others) == 1 else 'indices'} kept: {', '.join(sorted(others))}"
    return Finding("green", name, f"{text}; delete with `deepterms migrate {name} --drop-old`")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _holds_data(node: Mapping[str, Any]) -> bool:
    return any(str(role).startswith("data") for role in node.get("roles", ("data",)))
