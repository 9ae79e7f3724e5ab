"""Findings: what an engine's answers mean for search by surrogate text, judged without asking anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deepterms.cluster.cluster import Engine
from deepterms.deployment import Change
from deepterms.schema.layouts import LAYOUTS
from deepterms.units import format_bytes

__all__ = [
    "Finding",
    "judge_clauses",
    "judge_engine",
    "judge_generations",
    "judge_health",
    "judge_heap",
    "judge_ingest",
    "judge_refresh",
    "judge_resources",
    "judge_segments",
    "judge_space",
    "judge_writes",
]

Level = Literal["green", "yellow", "red"]

HEAP_YELLOW, HEAP_RED = 85, 95  # percent used; both engines' parent circuit breaker trips at 95
# The engines' own watermarks: at 15 % free no more shards are allocated, at 5 % indices turn read-only.
FREE_YELLOW, FREE_RED = 15, 5
SEGMENTS_YELLOW = 50  # a shard: each query visits the dictionary of each segment for every codeword
DELETED_YELLOW = 30  # percent of a shard's documents that are deleted but not merged away
# Elasticsearch from 8.1 on sets its limit by the heap, and never lower.
MIN_AUTOMATIC_CLAUSES = 1024


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        level: ``green``: as it should be; ``yellow``: works, but look at it; ``red``: something does not work.
        subject: what was looked at.
        text: what was found.
        advice: what to do; empty if green.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


def judge_engine(engine: Engine) -> Finding:
    """The engine, and the layouts that it has."""
    layouts = [layout.name for layout in LAYOUTS if layout.runs_on(engine)]
    if not layouts:
        advice = "use Elasticsearch 8 or later, or OpenSearch 2 or later"
        return Finding("red", "engine", f"{engine} has none of the layouts", advice)
    return Finding("green", "engine", f"{engine}; layouts {', '.join(layouts)}")


def judge_resources(changes: Sequence[Change]) -> Finding:
    """Templates and pipelines against this release's."""
    by_state: dict[str, list[str]] = {}
    for change in changes:
        by_state.setdefault(change.state, []).append(change.asset.name)
    wrong = {state: names for state, names in by_state.items() if state != "same"}
    if not wrong:
        return Finding("green", "templates", f"{len(changes)} templates and pipelines, all as in this release")
    text = "; ".join(f"{state}: {', '.join(sorted(set(names)))}" for state, names in sorted(wrong.items()))
    if "missing" in wrong:
        return Finding("red", "templates", text, "run `deepterms deploy`")
    return Finding("yellow", "templates", text, "run `deepterms check` for the differences")


def judge_clauses(engine: Engine, settings: Mapping[str, Any], *, largest: int) -> Finding:
    """The limit of clauses in a query against the codewords of the longest query.

    Args:
        engine: what was asked.
        settings: its answer on cluster settings, flat, with defaults.
        largest: the largest K of the indices.
    """
    name = "indices.query.bool.max_clause_count"
    found = next(
        (settings[kind][name] for kind in ("transient", "persistent", "defaults") if name in settings[kind]), ""
    )
    automatic = engine.name == "elasticsearch" and engine.version >= (8, 1, 0)
    if automatic:
        if largest > MIN_AUTOMATIC_CLAUSES:
            text = f"set by the engine from its heap, at least {MIN_AUTOMATIC_CLAUSES}; queries have {largest}"
            return Finding("yellow", "clause limit", text, "if queries are refused as too_many_clauses, give more heap")
        return Finding(
            "green", "clause limit", f"at least {MIN_AUTOMATIC_CLAUSES}, set by the engine; queries have {largest}"
        )
    if not str(found).isdecimal():
        return Finding("yellow", "clause limit", "the engine does not say", f"make sure that {name} is above {largest}")
    if int(found) < largest:
        advice = f"set {name} to {2 * largest} or more, or migrate to a smaller top_k"
        return Finding("red", "clause limit", f"{found}; queries have {largest}, so they are refused", advice)
    return Finding("green", "clause limit", f"{found}; queries have {largest}")


def judge_heap(nodes: Mapping[str, Any]) -> Finding:
    """Heap of the fullest node, from node statistics."""
    used, name = max((int(node["jvm"]["mem"]["heap_used_percent"]), str(node["name"])) for node in nodes.values())
    largest = max(int(node["jvm"]["mem"]["heap_max_in_bytes"]) for node in nodes.values())
    text = f"{used} % of {format_bytes(largest)} used on {name}"
    if used < HEAP_YELLOW:
        return Finding("green", "heap", text)
    advice = "look again in a minute, the collector may be due; if it stays, give more heap or send smaller bulks"
    return Finding("red" if used >= HEAP_RED else "yellow", "heap", text, advice)


def judge_space(nodes: Mapping[str, Any]) -> Finding:
    """Disk of the fullest data node, from node statistics."""
    data = [node for node in nodes.values() if _holds_data(node)]
    disks = [(node["fs"]["total"], str(node["name"])) for node in data if node["fs"]["total"].get("total_in_bytes")]
    if not disks:
        return Finding("yellow", "disk", "no data node says how full its disk is", "look at it by other means")
    total, name = min(disks, key=lambda disk: float(disk[0]["available_in_bytes"] / disk[0]["total_in_bytes"]))
    free = 100 * total["available_in_bytes"] / total["total_in_bytes"]
    text = f"{format_bytes(total['available_in_bytes'])} free, {free:.0f} %, on {name}"
    if free >= FREE_YELLOW:
        return Finding("green", "disk", text)
    if free >= FREE_RED:
        return Finding("yellow", "disk", text, "below 15 % no shards are put there, below 5 % indices turn read-only")
    return Finding("red", "disk", text, "make room: below 5 % the engine turns indices read-only")


def judge_ingest(nodes: Mapping[str, Any]) -> Finding:
    """Whether a node can run pipelines."""
    able = sum("ingest" in node.get("roles", ()) for node in nodes.values())
    if able:
        return Finding("green", "nodes", f"{len(nodes)}, of which {able} run pipelines")
    return Finding("red", "nodes", f"{len(nodes)}, none with the role ingest", "give node.roles ingest to one of them")


def judge_health(name: str, health: Mapping[str, Any]) -> Finding:
    """An index's shards."""
    state = str(health["status"])
    text = f"{state}, {health['active_primary_shards']} shards"
    if state == "green":
        return Finding("green", name, text)
    missing = health["unassigned_shards"] + health["initializing_shards"]
    if state == "yellow":
        advice = "add a node, or set number_of_replicas to 0 and accept that a lost disk is a lost index"
        return Finding("yellow", name, f"{text}; {missing} copies are not there", advice)
    advice = "ask GET _cluster/allocation/explain why; restore from a snapshot if the disk is lost"
    return Finding("red", name, f"{text}; {missing} are not there, so documents are missing", advice)


def judge_writes(name: str, settings: Mapping[str, Any]) -> Finding | None:
    """An index's blocks; None if there are none."""
    blocks = {key for key, value in settings.get("blocks", {}).items() if str(value) == "true"}
    if "read_only_allow_delete" in blocks:
        advice = "make room on the disk; the engine then takes the block away by itself"
        return Finding("red", name, "read-only, since a disk was nearly full", advice)
    if blocks & {"write", "read_only"}:
        advice = (
            f"if a migration was cut: run it again, or `deepterms migrate {name} --drop-old`; else unset index.blocks"
        )
        return Finding("yellow", name, f"blocked: {', '.join(sorted(blocks))}", advice)
    return None


def judge_refresh(name: str, settings: Mapping[str, Any]) -> Finding:
    """When new documents become visible."""
    interval = str(settings.get("refresh_interval", "1s, the default"))
    if interval == "-1":
        advice = "set index.refresh_interval to null once loading is done"
        return Finding("yellow", name, "never refreshes by itself, so new documents are not found", advice)
    return Finding("green", name, f"refreshed every {interval}")


def judge_segments(name: str, stats: Mapping[str, Any], *, shards: int) -> Finding:
    """How far an index is merged.

    Args:
        name: of the index.
        stats: of its primaries: docs, segments, merges, store.
        shards: how many primaries.
    """
    documents, deleted = int(stats["docs"]["count"]), int(stats["docs"]["deleted"])
    segments, merging = int(stats["segments"]["count"]), int(stats["merges"]["current"])
    text = f"{documents:,} documents, {format_bytes(stats['store']['size_in_bytes'])}, {segments} segments"
    text += f", {merging} merges under way" if merging else ""
    gone = 100 * deleted / max(1, documents + deleted)
    if segments > SEGMENTS_YELLOW * shards and not merging:
        advice = f"when nothing is written any more: POST {name}/_forcemerge?max_num_segments=1"
        return Finding("yellow", name, text, advice)
    if gone > DELETED_YELLOW and documents + deleted > 1_000 and not merging:
        advice = f"POST {name}/_forcemerge?only_expunge_deletes=true gives their space back"
        return Finding("yellow", name, f"{text}; {gone:.0f} % of what it holds is deleted", advice)
    return Finding("green", name, text)


def judge_generations(name: str, others: Mapping[str, Mapping[str, Any]], *, live: str) -> Finding | None:
    """Other indices of a name; None if there are none.

    Args:
        name: the alias.
        others: concrete index → what it says of itself.
        live: the index that the name points to.
    """
    if not others:
        return None
    unfinished = [
        concrete
        for concrete, meta in others.items()
        if meta.get("migration", {}).get("from") == live and "left" not in meta["migration"]
    ]
    if unfinished:
        advice = f"if none runs, finish it with the same command, or drop it: deepterms migrate {name} --drop-old"
        return Finding("yellow", name, f"a migration to {', '.join(unfinished)} runs or is unfinished", advice)
    return Finding("green", name, f"{', '.join(sorted(others))} kept; `deepterms migrate {name} --drop-old` deletes")


def _holds_data(node: Mapping[str, Any]) -> bool:
    return any(str(role).startswith("data") for role in node.get("roles", ("data",)))
