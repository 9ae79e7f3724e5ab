"""Responses: detects incomplete responses, and turns error responses into exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepterms.cluster.engine import explain_version_conflict
from deepterms.errors import ClusterError, IndexNotFound, RequestRejected, UnsupportedEngine

__all__ = [
    "CLAUSE_LIMIT",
    "build_error",
    "build_json_error",
    "explain_closed",
    "extract_reason",
    "find_error",
    "is_closed",
    "is_incomplete",
]

CLAUSE_LIMIT = "indices.query.bool.max_clause_count"  # a cluster setting of OpenSearch

MAX_TEXT = 500  # characters to quote of a response that is not JSON, such as a proxy's error page


def is_incomplete(answer: Mapping[str, Any]) -> bool:
    """Whether documents may be missing from a search or count: a shard failed, timed out, or has no active copy.

    Shards without an active copy count in ``total``, but neither in ``successful`` nor in ``failed``.
    """
    shards = answer["_shards"]
    return bool(answer.get("timed_out") or shards["failed"] or shards["successful"] < shards["total"])


def build_error(status: int, body: Any) -> ClusterError:
    """Build the exception for a response other than 2xx.

    Args:
        status: HTTP status.
        body: the response: parsed JSON, or text.
    """
    reason = extract_reason(_find_cause(body)) if isinstance(body, Mapping) else _truncate(body)
    conflict = explain_version_conflict(reason)
    if conflict is not None:
        return UnsupportedEngine(conflict)
    if "too_many_clauses" in reason or "too_many_nested_clauses" in reason or "maxClauseCount" in reason:
        # Elasticsearch 8.1 and later (SearchUtils.java): heap in MB · 64 / search threads, at least 1,024.
        reason += (
            f". Search with less effort, a smaller top_k or a smaller filter; or raise {CLAUSE_LIMIT} (OpenSearch), or "
            "give the nodes more heap, from which Elasticsearch computes its limit"
        )
    if status == 404 and reason.startswith("index_not_found_exception"):
        name = _find_cause(body).get("index", "of that name")
        return IndexNotFound(f"no index {name!r} in the cluster; create it with SurrogateIndex.create", body=body)
    return RequestRejected(f"the cluster rejected the request (HTTP {status}): {reason}", status=status, body=body)


def _find_cause(body: Mapping[str, Any]) -> Any:
    """Find the error in a response; `_reindex` and similar requests list errors by document."""
    failures = body.get("failures")
    if "error" not in body and isinstance(failures, list) and failures and isinstance(failures[0], Mapping):
        return failures[0].get("cause", failures[0])
    return body.get("error", body)


def build_json_error(text: str | bytes) -> ClusterError:
    """Build the exception for a response that is not JSON.

    Args:
        text: the response, or the client library's message.
    """
    return ClusterError(
        f"the request or its response is not JSON: {_truncate(text)}. Is there a proxy at that address?"
    )


def _truncate(text: Any) -> str:
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return whole if len(whole) <= MAX_TEXT else f"{whole[:MAX_TEXT]}…"


def find_error(answer: Mapping[str, Any]) -> ClusterError | None:
    """Build the exception for one response of `Cluster.search_many`; None if the search succeeded."""
    if "error" not in answer:
        return None
    return build_error(int(answer.get("status", 500)), answer)


def explain_closed(index: str) -> str:
    """Say that an index is closed, and how to open it."""
    return f"the index {index} is closed, so it can be neither read nor written; open it with POST /{index}/_open"


def is_closed(answer: Mapping[str, Any]) -> bool:
    """Whether an index is closed, from a response about it with its settings."""
    # The engines set this when they close an index, and remove it when they open it.
    return str(answer["settings"]["index"].get("verified_before_close", "")).lower() == "true"


def extract_reason(error: Any) -> str:
    """Extract the most specific message of an engine's error: type and reason of the innermost cause.

    Args:
        error: the ``error`` of a response or of a bulk item: an object, or text.
    """
    if not isinstance(error, Mapping):
        return _truncate(error)
    innermost: Mapping[str, Any] = error
    while isinstance(innermost.get("caused_by"), Mapping):
        innermost = innermost["caused_by"]
    if innermost is error and isinstance(error.get("root_cause"), list) and error["root_cause"]:
        first = error["root_cause"][0]
        innermost = first if isinstance(first, Mapping) else error
    kind, text = innermost.get("type") or error.get("type"), innermost.get("reason") or error.get("reason")
    if innermost is not error and "failed to parse field [" in str(error.get("reason")):
        text = f"{error['reason']}: {text}"  # only the outermost reason names the field
    if kind == "index_closed_exception":
        text = explain_closed(str(innermost.get("index") or "NAME"))
    return ": ".join(str(part) for part in (kind, text) if part) or _truncate(dict(error))
