"""Engines: what is behind the caller's client, what it can do, and its requests and errors in one form.

The only module that knows the two client libraries. Neither is imported unless the caller's client comes from it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from deepterms.backpressure import Backpressure
from deepterms.bulk import BulkAnswer, send_all
from deepterms.errors import ClusterError, ClusterUnreachable, InvalidInput, RequestRefused, UnsupportedEngine
from deepterms.versions import Engine, engine_of, version_conflict

__all__ = ["Cluster", "Engine", "incomplete", "reason"]

# What a path may hold: names arrive escaped (%), and lists of them have commas and stars.
_PATH_SAFE = "/%,*!$&'()+;=:@~"

# What this module stumbles with over an answer of another shape.
_NOT_AS_EXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)

LONGEST_TEXT = 500  # characters of an answer that is no JSON: a proxy's whole page helps nobody


class Cluster:
    """The caller's client, with one form of request, answer and error for both libraries.

    The client stays the caller's: it is neither configured, nor logged, nor closed here.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        backpressure: of bulk requests; the default waits with random pauses.

    Raises:
        InvalidInput: something else.
    """

    def __init__(self, client: Any, *, backpressure: Backpressure | None = None) -> None:
        families = {base.__module__.partition(".")[0] for base in type(client).__mro__}
        # elasticsearch8 and elasticsearch9 are the same library, installed side by side.
        known = {"opensearchpy", "elasticsearch", "elasticsearch8", "elasticsearch9"} & families
        if not known or not hasattr(client, "transport"):
            raise InvalidInput(
                "expected an opensearchpy.OpenSearch or an elasticsearch.Elasticsearch client; "
                f"got {type(client).__name__}"
            )
        self.client = client
        self.backpressure = backpressure or Backpressure()
        self._library = known.pop()

    def __repr__(self) -> str:
        return f"Cluster({self._library} client)"

    @cached_property
    def engine(self) -> Engine:
        """What answers at the other end.

        Raises:
            ClusterUnreachable: nothing does.
            UnsupportedEngine: it is none that deepterms can use; the message says what to change.
        """
        try:
            answer = self.request("GET", "/")
        except RequestRefused as error:
            if error.status != 404:
                raise
            answer = None
        return engine_of(answer)

    def request(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request.

        Args:
            method: HTTP method.
            path: from the root: ``/holidays/_search``. Whatever a URL would read as more than a name is escaped.
            body: what becomes JSON; text is sent as it is, and is lines of JSON.
            params: of the query string.

        Returns:
            The answer, parsed from JSON; True or False for HEAD.

        Raises:
            ClusterUnreachable: no answer.
            RequestRefused: an answer that says no.
            ClusterError: an answer that is not JSON.
        """
        path = quote(path, safe=_PATH_SAFE)
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in (params or {}).items()}
        ask = self._request_opensearch if self._library == "opensearchpy" else self._request_elasticsearch
        answer = ask(method, path, body=body, params=query)
        if isinstance(answer, str | bytes):
            raise _not_json(answer)
        return answer

    def bulk(
        self, actions: Iterable[tuple[dict[str, Any], str | None]], *, index: str, took: set[str] | None = None
    ) -> list[tuple[str, str]]:
        """Send documents in as many bulk requests as `Backpressure` says; what is refused for a time is sent again.

        That is a 429, 502, 503 or 504, of a whole request or of one document, or no answer at all: with growing pauses,
        as long as something gets through and for about 90 s after that. A request that is too large is divided. A write
        block is waited for as well, up to two minutes: it is what a migration sets before it moves the alias.

        Args:
            actions: (action line, source line as JSON text or None) pairs.
            index: the index of all.
            took: given the names of the concrete indices behind it that took something.

        Returns:
            (id, reason) of each action in order; the reason is empty for one that succeeded.

        Raises:
            ClusterUnreachable, RequestRefused: no answer, or a whole request refused, before any action had an answer
                of its own; later that is the reason of each action that the request held.
            ClusterError: an answer that is none to these actions.
        """

        def send(lines: str) -> list[BulkAnswer]:
            return self._bulk_once(lines, index=index)

        return send_all(actions, send=send, backpressure=self.backpressure, took=took)

    def _bulk_once(self, lines: str, *, index: str) -> list[BulkAnswer]:
        # What is left out of the answer is most of it.
        wanted = {"filter_path": "items.*._id,items.*._index,items.*.status,items.*.error"}
        answer = self.request("POST", f"/{quote(index, safe='')}/_bulk", body=lines, params=wanted)
        try:
            return [_bulk_answer(*next(iter(item.items()))) for item in answer["items"]]
        except (*_NOT_AS_EXPECTED, StopIteration) as error:
            raise ClusterError(f"the answer to a bulk request is not as engines give it: {error!r}") from error

    def _request_opensearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
        try:
            return self.client.transport.perform_request(method, path, params=dict(params) or None, body=body)
        except Exception as error:
            raise self._translate(error) from error

    def _request_elasticsearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/x-ndjson" if isinstance(body, str) else "application/json"
        try:
            response = self.client.perform_request(
                method, path, params=dict(params) or None, headers=headers, body=body
            )
        except Exception as error:
            raise self._translate(error) from error
        return bool(response) if method == "HEAD" else response.body

    def _translate(self, error: Exception) -> Exception:
        """The library's error as one of ours; anything else as it is."""
        if self._library == "opensearchpy":
            library = sys.modules["opensearchpy"]
            if isinstance(error, library.ConnectionError):
                return ClusterUnreachable(f"the cluster did not answer: {error.error}")
            if isinstance(error, library.TransportError):
                return _refused(int(error.status_code), error.info or error.error)
            if isinstance(error, library.SerializationError):
                return _not_json(str(error))
            return error
        library = sys.modules[self._library]
        if isinstance(error, library.UnsupportedProductError):
            return UnsupportedEngine(f"{error}; for OpenSearch pass an opensearchpy.OpenSearch client")
        if isinstance(error, library.SerializationError):
            return _not_json(str(error))
        if isinstance(error, library.ApiError):
            return _refused(int(error.meta.status), error.body)
        if isinstance(error, library.TransportError):
            return ClusterUnreachable(f"the cluster did not answer: {error}")
        return error


def _bulk_answer(action: str, outcome: Mapping[str, Any]) -> BulkAnswer:
    status = int(outcome["status"])
    # A document to delete that is not there is what was asked for.
    fine = 200 <= status < 300 or (action == "delete" and status == 404 and "error" not in outcome)
    why = "" if fine else reason(outcome.get("error") or f"HTTP {status}")
    return BulkAnswer(str(outcome["_id"]), why, status, str(outcome["_index"]))


def incomplete(answer: Mapping[str, Any]) -> bool:
    """Whether an answer to a search or a count may lack documents: a shard failed, ran out of time, or has no copy.

    Shards of which no copy is left are in ``total`` and in neither ``successful`` nor ``failed``.
    """
    shards = answer["_shards"]
    return bool(answer.get("timed_out") or shards["failed"] or shards["successful"] < shards["total"])


def _refused(status: int, body: Any) -> ClusterError:
    why = reason(body.get("error", body)) if isinstance(body, Mapping) else _cut(body)
    conflict = version_conflict(why)
    if conflict is not None:
        return UnsupportedEngine(conflict)
    return RequestRefused(f"the cluster refused the request (HTTP {status}): {why}", status=status, body=body)


def _not_json(what: str | bytes) -> ClusterError:
    return ClusterError(f"the request or its answer is not JSON: {_cut(what)}. Is there a proxy at that address?")


def _cut(text: Any) -> str:
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return whole if len(whole) <= LONGEST_TEXT else f"{whole[:LONGEST_TEXT]}…"


def reason(error: Any) -> str:
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
