"""Cluster: wraps the caller's client so that requests and errors have the same form with both client libraries.

No other module knows the client libraries. A library is only used if the caller's client comes from it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.bulk import BulkAnswer, BulkLine, BulkResult, send_all
from deepterms.cluster.engine import Engine, parse_engine
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.patience import Patience
from deepterms.cluster.responses import CLAUSE_LIMIT, build_error, build_json_error, extract_reason, is_incomplete
from deepterms.errors import ClusterError, ClusterUnreachable, InvalidInput, RequestRejected, UnsupportedEngine

__all__ = ["Cluster", "Engine"]

ENGINE_PATIENCE_SECONDS = 60  # how long both engines wait for a primary unless asked for less

POINT_IN_TIME_KEEP_ALIVE = "5m"  # between two pages

DEFAULT_CLAUSES = 1_024  # OpenSearch's default, for clusters that do not list the setting

# Not escaped in a path: names are already escaped (%), and lists of names contain commas and stars.
_PATH_SAFE = "/%,*!$&'()+;=:@~"

# Raised while a response of an unexpected shape is read.
_UNEXPECTED_SHAPE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Cluster:
    """The caller's client, with the same requests, responses and errors for both libraries.

    The client belongs to the caller: this class neither configures nor logs nor closes it.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.
        backpressure: batch size and backoff of bulk requests; a new `Backpressure` by default.

    Raises:
        InvalidInput: the client is of neither library, or asynchronous.
    """

    def __init__(self, client: Any, *, backpressure: Backpressure | None = None) -> None:
        families = {base.__module__.partition(".")[0] for base in type(client).__mro__}
        # elasticsearch8 and elasticsearch9 are the same library, installed side by side.
        known = {"opensearchpy", "elasticsearch", "elasticsearch8", "elasticsearch9"} & families
        kinds = {base.__name__ for base in type(client).__mro__}
        for synchronous in ("OpenSearch", "Elasticsearch"):
            if known and f"Async{synchronous}" in kinds:
                raise InvalidInput(
                    f"got an Async{synchronous} client, and deepterms needs the synchronous one; pass an "
                    f"{min(known)}.{synchronous}, and call deepterms in a thread (asyncio.to_thread) where it must not "
                    "block"
                )
        if not known or not hasattr(client, "transport"):
            raise InvalidInput(
                "expected an opensearchpy.OpenSearch or an elasticsearch.Elasticsearch client; "
                f"got {type(client).__name__}"
            )
        self.client = client
        self.backpressure = backpressure or Backpressure()
        self._library = known.pop()
        self._clause_limit: int | None = None

    def __repr__(self) -> str:
        return f"Cluster({self._library} client)"

    @cached_property
    def engine(self) -> Engine:
        """The engine that the cluster runs.

        Raises:
            ClusterUnreachable: the cluster did not respond.
            UnsupportedEngine: deepterms does not support it; the message says what to change.
        """
        try:
            answer = self.request("GET", "/")
        except RequestRejected as error:
            if error.status != 404:
                raise
            answer = None
        return parse_engine(answer)

    def request(self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        """Send one request.

        Args:
            method: HTTP method.
            path: absolute path, such as ``/holidays/_search``. Characters with a meaning in URLs are escaped.
            body: serialised to JSON; text is sent unchanged, and must consist of lines of JSON.
            params: query string parameters.

        Returns:
            The response, parsed from JSON; True or False for HEAD.

        Raises:
            ClusterUnreachable: the cluster did not respond.
            RequestRejected: the cluster rejected the request.
            ClusterError: the response is not JSON.
        """
        path = quote(path, safe=_PATH_SAFE)
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in (params or {}).items()}
        send = self._request_opensearch if self._library == "opensearchpy" else self._request_elasticsearch
        answer = send(method, path, body=body, params=query)
        if isinstance(answer, str | bytes):
            raise build_json_error(answer)
        return answer

    def find(self, path: str, *, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read everything that a name or pattern matches: name → description. Some versions answer 404 if nothing does.

        Args:
            path: as for `request`.
            params: as for `request`.

        Raises:
            ClusterUnreachable, RequestRejected, ClusterError: as for `request`.
        """
        try:
            return dict(self.request("GET", path, params=params))
        except RequestRejected as error:
            if error.status == 404:
                return {}
            raise

    def search_many(self, bodies: Sequence[Mapping[str, Any]], *, index: str) -> list[dict[str, Any]]:
        """Send several searches of one index in one request; return the responses in the same order.

        The response to a failed search has an ``error`` and a ``status`` instead of hits; `find_error` turns it into an
        exception.

        Raises:
            ClusterUnreachable: the cluster did not respond.
            RequestRejected: the request as a whole was rejected.
        """
        lines = "".join(f"{{}}\n{json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n" for body in bodies)
        answer = self.request("POST", build_index_path(index, "/_msearch"), body=lines)
        return list(answer["responses"])

    def count(self, index: str, *, body: Any = None, params: Mapping[str, Any] | None = None) -> int:
        """Count the documents of an index that are visible to search.

        Raises:
            ClusterError: a shard did not answer, so documents would be missing from the number.
            ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
        """
        answer = self.request("POST", build_index_path(index, "/_count"), body=body, params=params)
        if is_incomplete(answer):
            raise ClusterError(f"a shard of {index!r} did not answer while documents were counted; try again")
        return int(answer["count"])

    @contextmanager
    def point_in_time(self, index: str) -> Iterator[str]:
        """Open a point in time: searches with its ID see the index as it is now, without later writes.

        Yields:
            the ID of the point in time.

        Raises:
            UnsupportedEngine: OpenSearch before 2.4, or Elasticsearch before 7.10.
            ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected the request.
        """
        self.engine.require_point_in_time()
        opensearch = self.engine.name == "opensearch"
        path = build_index_path(index, "/_search/point_in_time") if opensearch else build_index_path(index, "/_pit")
        params: dict[str, Any] = {"keep_alive": POINT_IN_TIME_KEEP_ALIVE}
        if opensearch:  # otherwise shards without a copy would be missing from it, and not count as failed
            params["allow_partial_pit_creation"] = False
        answer = self.request("POST", path, params=params)
        identifier = str(answer["pit_id" if opensearch else "id"])
        try:
            yield identifier
        finally:
            with suppress(ClusterError):  # it expires anyway, and must not hide an error of the caller
                if opensearch:
                    self.request("DELETE", "/_search/point_in_time", body={"pit_id": [identifier]})
                else:
                    self.request("DELETE", "/_pit", body={"id": identifier})

    def check_clauses(self, count: int) -> None:
        """Reject a query with more clauses than the engine allows.

        The limit is read once, and again before a query is rejected, since it can be raised while the cluster runs.
        Elasticsearch 8.1 and later compute the limit from the heap size, at least 1,024, and do not publish it; the
        `RequestRejected` of the engine explains it.

        Raises:
            InvalidInput: there are too many clauses; the message names the setting.
            ClusterUnreachable: the cluster did not respond.
        """
        if self._clause_limit is None:
            self._clause_limit = self._read_clause_limit()
        if count > self._clause_limit:
            self._clause_limit = self._read_clause_limit()
        if count > self._clause_limit:
            raise InvalidInput(
                f"the query has {count} clauses, and the cluster allows {self._clause_limit}; raise the cluster "
                f"setting {CLAUSE_LIMIT}, or search with less effort (about {self._clause_limit / count:.2f}), a "
                "smaller top_k or a smaller filter"
            )

    def _read_clause_limit(self) -> int:
        try:
            if self.engine.name == "elasticsearch" and self.engine.version >= (8, 1, 0):
                return sys.maxsize
            answer = self.request("GET", "/_cluster/settings", params={"include_defaults": True, "flat_settings": True})
        except RequestRejected as error:
            if error.status == 429 or error.status >= 500:
                raise
            return sys.maxsize  # a user with search permissions only cannot read settings; the engine checks the limit
        for level in ("transient", "persistent", "defaults"):
            if CLAUSE_LIMIT in answer.get(level, {}):
                return int(answer[level][CLAUSE_LIMIT])
        return DEFAULT_CLAUSES

    def bulk(
        self,
        actions: Iterable[BulkLine],
        *,
        index: str,
        require_alias: bool = False,
        pipeline: str | None = None,
        waits_for_block: bool = True,
        patience: Patience | None = None,
    ) -> BulkResult:
        """Send documents in bulk requests of adaptive size, and retry temporary failures.

        A status of 429, 502, 503 or 504, of a whole request or of one document, and a missing response are retried
        with exponential backoff and jitter (`Backpressure`): as long as the cluster accepts some documents, and for
        about 90 s, and the time of nine requests, after it stops. A request that is too large (413) is split. A write
        block, which a migration sets before it moves the alias, and a shard without a primary are waited for up to two
        minutes each. The log says what is waited for.

        Args:
            actions: (action line, source line as JSON text or None) pairs.
            index: the index or alias to write to.
            require_alias: reject documents unless the index is an alias. Otherwise, if it was deleted, the engine would
                create a plain index of that name.
            pipeline: process documents by this pipeline instead of the index's default; the engine rejects them if
                there is none.
            waits_for_block: retry a write block; otherwise it is a result like any other.
            patience: of the call that this is a part of, so that its requests together wait no longer than one would.
                Once it is over, the engine is asked to wait for a primary for a second only. Default: a new one.

        Returns:
            The result of each action, in order.

        Raises:
            ClusterUnreachable, RequestRejected: the cluster did not respond, or rejected a whole request, before any
                action had a result. After that, the error becomes the reason of every action in the failed request.
            ClusterError: the response does not match the request.
        """
        # Without the filter, most of the response would be fields that nobody reads.
        params = {"filter_path": "items.*._id,items.*._index,items.*.status,items.*.error"}
        if require_alias:
            params["require_alias"] = "true"
        if pipeline is not None:
            params["pipeline"] = pipeline
        path = build_index_path(index, "/_bulk")

        patience = patience or Patience(self.backpressure)

        def send(lines: str) -> list[BulkAnswer]:
            if patience.left_in_engine < ENGINE_PATIENCE_SECONDS:
                params["timeout"] = f"{max(1, math.ceil(patience.left_in_engine))}s"
            else:
                params.pop("timeout", None)
            answer = self.request("POST", path, body=lines, params=params)
            try:
                return [_bulk_answer(*next(iter(item.items()))) for item in answer["items"]]
            except (*_UNEXPECTED_SHAPE, StopIteration) as error:
                raise ClusterError(
                    f"the response to a bulk request is not in the engines' format: {error!r}"
                ) from error

        return send_all(
            actions, send=send, backpressure=self.backpressure, patience=patience, waits_for_block=waits_for_block
        )

    def _request_opensearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
        if "timeout" in params:  # in `params`, the library would take it for its own timeout and not send it
            path, params = f"{path}?{urlencode(params)}", {}
        try:
            headers = {"content-type": "application/x-ndjson"} if isinstance(body, str) else None
            return self.client.transport.perform_request(
                method, path, headers=headers, params=dict(params) or None, body=body
            )
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
        """Convert a client library's error to one of ours; return any other error unchanged."""
        if self._library == "opensearchpy":
            library = sys.modules["opensearchpy"]
            if isinstance(error, library.ConnectionError):
                return ClusterUnreachable(f"the cluster did not respond: {error.error}")
            if isinstance(error, library.TransportError):
                return build_error(int(error.status_code), error.info or error.error)
            if isinstance(error, library.SerializationError):
                return build_json_error(str(error))
            return error
        library = sys.modules[self._library]
        # With tracing on, the library formats its error for the span, which fails if `error` in the response does not
        # have the engines' format. The library's error is then the context of that failure.
        inner = error.__context__
        if isinstance(error, (TypeError, AttributeError)) and isinstance(inner, library.ApiError):
            error = inner
        if isinstance(error, library.UnsupportedProductError):
            return UnsupportedEngine(f"{error}; for OpenSearch pass an opensearchpy.OpenSearch client")
        if isinstance(error, library.SerializationError):
            return build_json_error(str(error))
        if isinstance(error, library.ApiError):
            return build_error(int(error.meta.status), error.body)
        if isinstance(error, library.TransportError):
            return ClusterUnreachable(f"the cluster did not respond: {error}")
        return error


def _bulk_answer(action: str, outcome: Mapping[str, Any]) -> BulkAnswer:
    status = int(outcome["status"])
    # Deleting a document that does not exist succeeds.
    succeeded = 200 <= status < 300 or (action == "delete" and status == 404 and "error" not in outcome)
    reason = "" if succeeded else extract_reason(outcome.get("error") or f"HTTP {status}")
    return BulkAnswer(str(outcome["_id"]), reason, status, str(outcome["_index"]))
