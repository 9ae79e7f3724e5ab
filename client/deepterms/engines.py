"""Engines: what is behind the caller's client, what it can do, and its requests and errors in one form.

The only module that knows the two client libraries. Neither is imported unless the caller's client comes from it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any
from urllib.parse import quote

from deepterms.errors import ClusterError, ClusterUnreachable, InvalidInput, RequestRefused, UnsupportedEngine
from deepterms.versions import Engine, engine_of, version_conflict

__all__ = ["Cluster", "Engine", "reason"]

_JSON = {"accept": "application/json", "content-type": "application/json"}

# A rejected document (429: the engine's queue is full) is sent again after 0.5, 1, 2, … s.
BULK_RETRIES = 6
BULK_FIRST_WAIT_SECONDS = 0.5
BULK_LONGEST_WAIT_SECONDS = 30

# A migration blocks writes for a moment before it moves the alias; a document refused by that is sent again until then.
BLOCK_WAIT_SECONDS = 0.5
BLOCK_PATIENCE_SECONDS = 120
# What a path may hold: names arrive escaped (%), and lists of them have commas and stars.
_PATH_SAFE = "/%,*!$&'()+;=:@~"

# What the libraries' helpers and this module stumble with over an answer of another shape.
_NOT_AS_EXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)

LONGEST_TEXT = 500  # characters of an answer that is no JSON: a proxy's whole page helps nobody

WRITE_BLOCK = "FORBIDDEN/8/"  # the write block's own number in both engines; a full disk has another


class Cluster:
    """The caller's client, with one form of request, answer and error for both libraries.

    The client stays the caller's: it is neither configured, nor logged, nor closed here.

    Args:
        client: an ``opensearchpy.OpenSearch`` or an ``elasticsearch.Elasticsearch``.

    Raises:
        InvalidInput: something else.
    """

    def __init__(self, client: Any) -> None:
        families = {base.__module__.partition(".")[0] for base in type(client).__mro__}
        # elasticsearch8 and elasticsearch9 are the same library, installed side by side.
        known = {"opensearchpy", "elasticsearch", "elasticsearch8", "elasticsearch9"} & families
        if not known or not hasattr(client, "transport"):
            raise InvalidInput(
                "expected an opensearchpy.OpenSearch or an elasticsearch.Elasticsearch client; "
                f"got {type(client).__name__}"
            )
        self.client = client
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
            body: what becomes JSON.
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
    ) -> Iterator[tuple[str, str]]:
        """Send documents in one bulk request; rejected ones are sent again, with growing waits.

        A write block is waited for as well, up to two minutes: it is what a migration sets before it moves the alias.

        Args:
            actions: (action line, source line as JSON text or None) pairs.
            index: the index of all.
            took: given the names of the concrete indices behind it that took something.

        Yields:
            (id, reason) of each action in order; the reason is empty for one that succeeded.

        Raises:
            ClusterUnreachable: no answer.
            RequestRefused: the request as a whole was refused.
        """
        pairs = list(actions)
        outcomes = [("", "")] * len(pairs)
        waiting, rejections, patience = list(range(len(pairs))), 0, float(BLOCK_PATIENCE_SECONDS)
        while waiting:
            again, pause = [], 0.0
            for position, (identifier, why, status, where) in zip(
                waiting, self._bulk_once([pairs[position] for position in waiting], index=index), strict=True
            ):
                outcomes[position] = (identifier, why)
                if took is not None and not why:
                    took.add(where)
                if status == 429 and rejections < BULK_RETRIES:
                    again.append(position)
                    pause = max(pause, min(BULK_FIRST_WAIT_SECONDS * 2**rejections, BULK_LONGEST_WAIT_SECONDS))
                elif status == 403 and WRITE_BLOCK in why and patience > 0:
                    again.append(position)
                    pause = max(pause, BLOCK_WAIT_SECONDS)
            rejections += any(outcomes[position][1] and WRITE_BLOCK not in outcomes[position][1] for position in again)
            patience -= pause
            waiting = again
            if again:
                time.sleep(pause)
        yield from outcomes

    def _bulk_once(
        self, pairs: list[tuple[dict[str, Any], str | None]], *, index: str
    ) -> list[tuple[str, str, int, str]]:
        """(id, reason, HTTP status, concrete index) of each action; the reason is empty for one that succeeded."""
        helpers = import_module(f"{self._library}.helpers")
        results = []
        try:
            for ok, item in helpers.streaming_bulk(
                self.client,
                pairs,
                index=index,
                chunk_size=len(pairs),
                expand_action_callback=_as_given,  # both helpers pass text through unchanged
                raise_on_error=False,
                max_retries=0,
            ):
                ((action, outcome),) = item.items()
                status = int(outcome.get("status", 0))
                # A document to delete that is not there is what was asked for.
                fine = ok or (action == "delete" and status == 404 and "error" not in outcome)
                why = "" if fine else reason(outcome.get("error", outcome))
                results.append((str(outcome["_id"]), why, status, str(outcome.get("_index", index))))
        except Exception as error:
            refused = self._translate(error)
            if isinstance(error, _NOT_AS_EXPECTED):
                refused = ClusterError(f"the answer to a bulk request is not as engines give it: {error!r}")
            if isinstance(refused, RequestRefused) and (refused.status == 429 or WRITE_BLOCK in str(refused)):
                # The whole request, for a reason that passes.
                done = len(results)
                return results + [(_id_of(action), str(refused), refused.status, index) for action, _ in pairs[done:]]
            raise refused from error
        if len(results) != len(pairs):
            raise ClusterError(f"{len(pairs)} documents were sent, and the cluster's answer is about {len(results)}")
        return results

    def _request_opensearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
        try:
            return self.client.transport.perform_request(method, path, params=dict(params) or None, body=body)
        except Exception as error:
            raise self._translate(error) from error

    def _request_elasticsearch(self, method: str, path: str, *, body: Any, params: Mapping[str, Any]) -> Any:
        headers = _JSON if body is not None else {"accept": _JSON["accept"]}
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


def _id_of(action: Mapping[str, Any]) -> str:
    (parameters,) = action.values()
    return str(parameters["_id"])


def _as_given(action: tuple[dict[str, Any], str | None]) -> tuple[dict[str, Any], str | None]:
    return action


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
