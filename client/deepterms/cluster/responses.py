"""Answers: whether an engine's answer is whole, and what one that says no means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.cluster.engine import explain_version_conflict
from deepterms.errors import ClusterError, IndexNotFound, RequestRejected, UnsupportedEngine

__all__ = ["CLAUSE_LIMIT", "build_error", "build_json_error", "extract_reason", "find_error", "is_incomplete"]

CLAUSE_LIMIT = "indices.query.bool.max_clause_count"  # a cluster setting of OpenSearch

MAX_TEXT = 500  # characters of an answer that is no JSON: a proxy's whole page helps nobody


def is_incomplete(answer: Mapping[str, Any]) -> bool:
    """Whether an answer to a search or a count may lack documents: a shard failed, ran out of time, or has no copy.

    Shards of which no copy is left are in ``total`` and in neither ``successful`` nor ``failed``.
    """
    shards = answer["_shards"]
    return bool(answer.get("timed_out") or shards["failed"] or shards["successful"] < shards["total"])


def build_error(status: int, body: Any) -> ClusterError:
    """The error that an answer other than 2xx stands for.

    Args:
        status: HTTP status.
        body: of the answer: parsed JSON, or text.
    """
    why = extract_reason(_error_in(body)) if isinstance(body, Mapping) else _cut(body)
    conflict = explain_version_conflict(why)
    if conflict is not None:
        return UnsupportedEngine(conflict)
    if "too_many_clauses" in why or "too_many_nested_clauses" in why or "maxClauseCount" in why:
        # Elasticsearch from 8.1 on (SearchUtils.java): heap in MB · 64 / search threads, at least 1,024.
        why += (
            f". Ask with less effort, a smaller top_k or a smaller filter; or raise {CLAUSE_LIMIT} (OpenSearch), or "
            "give the nodes more heap, from which Elasticsearch computes its limit"
        )
    if status == 404 and why.startswith("index_not_found_exception"):
        name = _error_in(body).get("index", "of that name")
        return IndexNotFound(f"no index {name!r} in the cluster; create it with SurrogateIndex.create", body=body)
    return RequestRejected(f"the cluster rejected the request (HTTP {status}): {why}", status=status, body=body)


def _error_in(body: Mapping[str, Any]) -> Any:
    """What an answer says went wrong; `_reindex` and its like list it by document."""
    failures = body.get("failures")
    if "error" not in body and isinstance(failures, list) and failures and isinstance(failures[0], Mapping):
        return failures[0].get("cause", failures[0])
    return body.get("error", body)


def build_json_error(what: str | bytes) -> ClusterError:
    """The error that an answer of another kind stands for."""
    return ClusterError(f"the request or its answer is not JSON: {_cut(what)}. Is there a proxy at that address?")


def _cut(text: Any) -> str:
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return whole if len(whole) <= MAX_TEXT else f"{whole[:MAX_TEXT]}…"


def find_error(answer: Mapping[str, Any]) -> ClusterError | None:
    """The error of one answer of `Cluster.search_many`; None for one that is not an error."""
    if "error" not in answer:
        return None
    return build_error(int(answer.get("status", 500)), answer)


def extract_reason(error: Any) -> str:
    """The sentence in an engine's error that says most: the innermost cause, with the type of the outermost.

    Args:
        error: the ``error`` of an answer or of a bulk item: an object, or text.
    """
    if not isinstance(error, Mapping):
        return _cut(error)
    innermost: Mapping[str, Any] = error
    while isinstance(innermost.get("caused_by"), Mapping):
        innermost = innermost["caused_by"]
    if innermost is error and isinstance(error.get("root_cause"), list) and error["root_cause"]:
        first = error["root_cause"][0]
        innermost = first if isinstance(first, Mapping) else error
    kind, text = innermost.get("type") or error.get("type"), innermost.get("reason") or error.get("reason")
    return ": ".join(str(part) for part in (kind, text) if part) or _cut(dict(error))
