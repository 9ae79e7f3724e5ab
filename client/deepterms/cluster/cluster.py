"""Engines: what is behind the caller's client, what it can do, and its requests and errors in one form.

The only module that knows the two client libraries. Neither is imported unless the caller's client comes from it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import quote

from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.bulk import BulkAnswer, BulkLine, BulkResult, send_all
from deepterms.cluster.engine import Engine, parse_engine
from deepterms.cluster.index_names import build_index_path
from deepterms.cluster.responses import CLAUSE_LIMIT, build_error, build_json_error, extract_reason
from deepterms.errors import ClusterError, ClusterUnreachable, InvalidInput, RequestRejected, UnsupportedEngine

__all__ = ["Cluster", "Engine"]

POINT_IN_TIME_KEPT = "5m"  # between two pages

DEFAULT_CLAUSES = 1_024  # of OpenSearch, where the setting cannot be read

# What a path may hold: names arrive escaped (%), and lists of them have commas and stars.
_PATH_SAFE = "/%,*!$&'()+;=:@~"

# What this module stumbles with over an answer of another shape.
_NOT_AS_EXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


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
        self._clause_limit: int | None = None

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
        except RequestRejected as error:
            if error.status != 404:
                raise
            answer = None
        return parse_engine(answer)

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
            RequestRejected: an answer that says no.
            ClusterError: an answer that is not JSON.
        """
        path = quote(path, safe=_PATH_SAFE)
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in (params or {}).items()}
        ask = self._request_opensearch if self._library == "opensearchpy" else self._request_elasticsearch
        answer = ask(method, path, body=body, params=query)
        if isinstance(answer, str | bytes):
            raise build_json_error(answer)
        return answer

    def search_many(self, bodies: Sequence[Mapping[str, Any]], *, index: str) -> list[dict[str, Any]]:
        """Send several searches of one index as one request; the answers in their order.

        The answer to a search that failed has an ``error`` and a ``status`` in place of hits; `find_error` makes it an
        exception.

        Raises:
            ClusterUnreachable: no answer.
            RequestRejected: the request as a whole was refused.
        """
        lines = "".join(f"{{}}\n{json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n" for body in bodies)
        answer = self.request("POST", build_index_path(index, "/_msearch"), body=lines)
        return list(answer["responses"])

    @contextmanager
    def point_in_time(self, index: str) -> Iterator[str]:
        """The id of a view of an index as it is now: what is written later does not show in searches that name it.

        Raises:
            UnsupportedEngine: OpenSearch before 2.4, or Elasticsearch before 7.10.
            ClusterUnreachable, RequestRejected: the cluster did not answer, or refused.
        """
        self.engine.require_point_in_time()
        opensearch = self.engine.name == "opensearch"
        path = build_index_path(index, "/_search/point_in_time") if opensearch else build_index_path(index, "/_pit")
        answer = self.request("POST", path, params={"keep_alive": POINT_IN_TIME_KEPT})
        identifier = str(answer["pit_id" if opensearch else "id"])
        try:
            yield identifier
        finally:
            if opensearch:
                self.request("DELETE", "/_search/point_in_time", body={"pit_id": [identifier]})
            else:
                self.request("DELETE", "/_pit", body={"id": identifier})

    def check_clauses(self, count: int) -> None:
        """Refuse a query that the engine would refuse for its number of clauses.

        The limit is read once; again before a query is refused, since it can be raised while the cluster runs.
        Elasticsearch from 8.1 on computes its own from its heap, at least 1,024, and tells nobody: what it refuses is
        explained in the `RequestRejected`.

        Raises:
            InvalidInput: too many; names the setting.
            ClusterUnreachable: no answer.
        """
        if self._clause_limit is None:
            self._clause_limit = self._read_clause_limit()
        if count > self._clause_limit:
            self._clause_limit = self._read_clause_limit()
        if count > self._clause_limit:
            raise InvalidInput(
                f"the query has {count} clauses, and the cluster allows {self._clause_limit}; raise the cluster "
                f"setting {CLAUSE_LIMIT}, or ask with less effort (about {self._clause_limit / count:.2f}), a smaller "
                "top_k or a smaller filter"
            )

    def _read_clause_limit(self) -> int:
        try:
            if self.engine.name == "elasticsearch" and self.engine.version >= (8, 1, 0):
                return sys.maxsize
            answer = self.request("GET", "/_cluster/settings", params={"include_defaults": True, "flat_settings": True})
        except RequestRejected as error:
            if error.status == 429 or error.status >= 500:
                raise
            return sys.maxsize  # who may only search may not read settings; the engine refuses what is too much
        for level in ("transient", "persistent", "defaults"):
            if CLAUSE_LIMIT in answer.get(level, {}):
                return int(answer[level][CLAUSE_LIMIT])
        return DEFAULT_CLAUSES

    def bulk(self, actions: Iterable[BulkLine], *, index: str, require_alias: bool = False) -> BulkResult:
        """Send documents in as many bulk requests as `Backpressure` says; what is rejected for a time is sent again.

        That is a 429, 502, 503 or 504, of a whole request or of one document, or no answer at all: with growing pauses,
        as long as something gets through and for about 90 s after that. A request that is too large is divided. A write
        block is waited for as well, up to two minutes: a migration sets one before it moves the alias.

        Args:
            actions: (action line, source line as JSON text or None) pairs.
            index: the index of all.
            require_alias: reject documents unless the index is an alias. Otherwise, if it was deleted, the engine would
                create a plain index of that name.

        Returns:
            The answer to each action, in order.

        Raises:
            ClusterUnreachable, RequestRejected: no answer, or a whole request rejected, before any action had an answer
                of its own; later that is the reason of each action that the request held.
            ClusterError: a response that does not match the request.
        """
        # What is left out of the answer is most of it.
        params = {"filter_path": "items.*._id,items.*._index,items.*.status,items.*.error"}
        if require_alias:
            params["require_alias"] = "true"
        path = build_index_path(index, "/_bulk")

        def send(lines: str) -> list[BulkAnswer]:
            answer = self.request("POST", path, body=lines, params=params)
            try:
                return [_bulk_answer(*next(iter(item.items()))) for item in answer["items"]]
            except (*_NOT_AS_EXPECTED, StopIteration) as error:
                raise ClusterError(
                    f"the response to a bulk request is not in the engines' format: {error!r}"
                ) from error

        return send_all(actions, send=send, backpressure=self.backpressure)

    def _request_opensearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
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
        """The library's error as one of ours; anything else as it is."""
        if self._library == "opensearchpy":
            library = sys.modules["opensearchpy"]
            if isinstance(error, library.ConnectionError):
                return ClusterUnreachable(f"the cluster did not answer: {error.error}")
            if isinstance(error, library.TransportError):
                return build_error(int(error.status_code), error.info or error.error)
            if isinstance(error, library.SerializationError):
                return build_json_error(str(error))
            return error
        library = sys.modules[self._library]
        # With tracing on, the library prints its own error into the span, and that fails on an answer whose `error`
        # is not as engines give it; the error itself is then only the context of the failure.
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
            return ClusterUnreachable(f"the cluster did not answer: {error}")
        return error


def _bulk_answer(action: str, outcome: Mapping[str, Any]) -> BulkAnswer:
    status = int(outcome["status"])
    # A document to delete that is not there is what was asked for.
    fine = 200 <= status < 300 or (action == "delete" and status == 404 and "error" not in outcome)
    why = "" if fine else extract_reason(outcome.get("error") or f"HTTP {status}")
    return BulkAnswer(str(outcome["_id"]), why, status, str(outcome["_index"]))
