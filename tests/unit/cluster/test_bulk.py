"""Tests of bulk requests: which documents are retried, in which batch sizes and after which delays."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

from deepterms.cluster import backpressure
from deepterms.cluster.backpressure import Backpressure
from deepterms.cluster.bulk import BulkAnswer, send_all
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.patience import PATIENCE_SECONDS, Patience
from deepterms.errors import ClusterError, ClusterUnreachable, RequestRejected
from tests.unit.fake_server import Answer, Asked, serving

BLOCKED = ("index [i] blocked by: [FORBIDDEN/8/index write (api)];", 403)
FULL_DISK = ("index [i] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];", 403)
BUSY = ("rejected_execution_exception: queue is full", 429)
LOST_SHARD = ("unavailable_shards_exception: [i][2] primary shard is not active Timeout: [1m]", 503)
BAD = ("mapper_parsing_exception: no", 400)
FINE = ("", 200)
OVERLOADED = RequestRejected("circuit_breaking_exception: Data too large", status=429)
TOO_LARGE = RequestRejected("Request Entity Too Large", status=413)


class Script:
    """A cluster that returns scripted results per document, one after the other; the last one repeats."""

    def __init__(self, answers: dict[str, list[tuple[str, int]]], *, random: float = 1.0) -> None:
        self.answers = answers
        self.requests: list[list[str]] = []
        self.pauses: list[float] = []
        self.indices: set[str] = set()
        self.backpressure = Backpressure(random=lambda: random, sleep=self.pauses.append)

    def send(self, lines: str) -> list[BulkAnswer]:
        ids = [json.loads(line)["index"]["_id"] for line in lines.splitlines()[::2]]
        self.requests.append(ids)
        results = []
        for identifier in ids:
            left = self.answers[identifier]
            why, status = left.pop(0) if len(left) > 1 else left[0]
            results.append(BulkAnswer(identifier, why, status, "i-000001"))
        return results

    def run(
        self, send: Callable[[str], list[BulkAnswer]] | None = None, *, patience: Patience | None = None
    ) -> list[tuple[str, str]]:
        actions: list[Any] = [({"index": {"_id": identifier}}, "{}") for identifier in self.answers]
        result = send_all(actions, send=send or self.send, backpressure=self.backpressure, patience=patience)
        self.indices = result.indices
        return result.outcomes


def test_only_temporary_failures_are_retried() -> None:
    script = Script({"a": [BUSY, BUSY, FINE], "b": [BAD], "c": [BLOCKED, FINE], "d": [FINE], "e": [FULL_DISK]})
    assert script.run() == [("a", ""), ("b", BAD[0]), ("c", ""), ("d", ""), ("e", FULL_DISK[0])]
    assert script.requests == [["a", "b", "c", "d", "e"], ["a", "c"], ["a"]]
    assert script.pauses == [0.5, 1.0]
    assert script.indices == {"i-000001"}


def test_a_write_block_is_retried_for_two_minutes() -> None:
    script = Script({"a": [BLOCKED]})
    assert script.run() == [("a", BLOCKED[0])]
    assert sum(script.pauses) == PATIENCE_SECONDS


def test_the_requests_of_one_call_share_their_patience(caplog: pytest.LogCaptureFixture) -> None:
    script = Script({"a": [BLOCKED]})
    patience = Patience(script.backpressure)
    for _ in range(3):
        assert script.run(patience=patience) == [("a", BLOCKED[0])]
    assert sum(script.pauses) == PATIENCE_SECONDS
    assert [record.getMessage() for record in caplog.records] == [
        "waiting up to 120 s for the write block of i to be removed"
    ]
    script.answers = {"b": [FINE], "c": [LOST_SHARD]}  # another index, whose shard is lost
    script.pauses.clear()
    assert script.run(patience=patience) == [("b", ""), ("c", LOST_SHARD[0])]
    script.answers = {"d": [LOST_SHARD], "e": [("index [i-000001] blocked by: [FORBIDDEN/8/", 403), FINE]}
    assert script.run(patience=patience) == [("d", LOST_SHARD[0]), ("e", "")]
    assert sum(script.pauses) == PATIENCE_SECONDS + 0.5
    assert script.backpressure.documents == backpressure.DOCUMENTS_PER_BULK


def test_a_shard_that_gets_its_primary_back_is_waited_for_again() -> None:
    script = Script({"a": [LOST_SHARD, LOST_SHARD, FINE]})
    patience = Patience(script.backpressure)
    assert script.run(patience=patience) == [("a", "")]
    script.answers = {"a": [LOST_SHARD]}
    assert script.run(patience=patience) == [("a", LOST_SHARD[0])]
    assert sum(script.pauses) == PATIENCE_SECONDS + 1


def test_a_call_that_gave_up_sends_a_request_every_half_minute() -> None:
    script = Script({"a": [BUSY]})
    patience = Patience(script.backpressure)
    for _ in range(3):
        assert script.run(patience=patience) == [("a", BUSY[0])]
    assert len(script.requests) == backpressure.RETRIES + 1
    script.backpressure.wait(30)
    script.answers = {"a": [FINE]}
    assert script.run(patience=patience) == [("a", "")]


def test_a_full_queue_is_retried_eight_times() -> None:
    script = Script({"a": [BUSY]})
    assert script.run() == [("a", BUSY[0])]
    assert script.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert script.indices == set()
    script.pauses.clear()
    assert script.run() == [("a", BUSY[0])]
    assert script.pauses == []
    script.answers = {"b": [FINE]}
    assert script.run() == [("b", "")]
    script.answers = {"a": [BUSY, FINE]}
    assert script.run() == [("a", "")]
    assert script.pauses == [0.5]


def test_half_of_each_delay_is_jitter() -> None:
    script = Script({"a": [BUSY, BUSY, BUSY, FINE]}, random=0.0)
    script.run()
    assert script.pauses == [0.25, 0.5, 1]


def test_an_overload_halves_the_batch_which_grows_back(caplog: pytest.LogCaptureFixture) -> None:
    ids = [f"d{number:04}" for number in range(1_000)]
    script = Script({identifier: [FINE] for identifier in ids})

    def weak(lines: str) -> list[BulkAnswer]:
        if lines.count("\n") > 2 * 300:
            raise OVERLOADED
        return script.send(lines)

    with caplog.at_level(logging.WARNING, "deepterms"):
        assert script.run(weak) == [(identifier, "") for identifier in ids]
    assert [len(sent) for sent in script.requests] == [250, 270, 290, 190]
    assert script.pauses == [0.5, 1]
    assert sorted(identifier for sent in script.requests for identifier in sent) == ids
    assert "bulk requests shrink to 500 documents: circuit_breaking_exception" in caplog.text
    for _ in range(50):
        script.answers = {"a": [FINE]}
        script.run()
    assert script.backpressure.documents == backpressure.DOCUMENTS_PER_BULK


def test_two_simultaneous_rejections_halve_the_size_once() -> None:
    pressure = Backpressure()
    pressure.shrink(1_000, "queue")
    pressure.shrink(1_000, "queue")
    assert pressure.documents == 500


def test_a_permanently_rejected_document_holds_up_no_other() -> None:
    script = Script({identifier: [FINE] for identifier in "abcdefgh"})

    def never_b(lines: str) -> list[BulkAnswer]:
        if '"b"' in lines:
            raise OVERLOADED
        return script.send(lines)

    assert script.run(never_b) == [
        (identifier, str(OVERLOADED) if identifier == "b" else "") for identifier in "abcdefgh"
    ]


def test_a_request_that_is_too_large_is_split() -> None:
    script = Script({identifier: [FINE] for identifier in "abcdefgh"})
    line = len('{"index": {"_id": "a"}}\n{}\n')

    def narrow(lines: str) -> list[BulkAnswer]:
        if len(lines) > 3 * line:
            raise TOO_LARGE
        return script.send(lines)

    assert script.run(narrow) == [(identifier, "") for identifier in "abcdefgh"]
    assert {len(sent) for sent in script.requests} == {2}
    assert script.pauses == []
    assert script.run(narrow)[0] == ("a", "")
    assert script.backpressure.characters == 2 * line


def test_one_document_over_the_limit_fails_alone() -> None:
    script = Script({identifier: [FINE] for identifier in "abcd"})

    def no_c(lines: str) -> list[BulkAnswer]:
        if '"c"' in lines:
            raise TOO_LARGE
        return script.send(lines)

    assert script.run(no_c) == [("a", ""), ("b", ""), ("c", str(TOO_LARGE)), ("d", "")]


def test_requests_are_bounded_in_characters() -> None:
    pressure = Backpressure()
    assert pressure.count_fitting([2**20] * 40) == 16
    assert pressure.count_fitting([2**30, 1]) == 1
    assert pressure.count_fitting([10] * 5_000) == 1_000


def test_a_missing_response_is_retried_and_then_raised() -> None:
    script = Script({"a": [FINE]})

    def nobody(lines: str) -> list[BulkAnswer]:
        raise ClusterUnreachable("the cluster did not respond")

    with pytest.raises(ClusterUnreachable):
        script.run(nobody)
    assert len(script.pauses) == backpressure.RETRIES


def test_a_late_rejection_is_the_reason_of_its_documents() -> None:
    script = Script({identifier: [FINE] for identifier in "abcd"})
    script.backpressure.documents = 2
    calls = iter(range(9))

    def forbidden_later(lines: str) -> list[BulkAnswer]:
        if next(calls):
            raise RequestRejected("no rights", status=403)
        return script.send(lines)

    assert script.run(forbidden_later) == [("a", ""), ("b", ""), ("c", "no rights"), ("d", "no rights")]
    with pytest.raises(RequestRejected, match="no rights"):
        script.run(forbidden_later)


def test_a_response_about_other_documents_is_an_error() -> None:
    script = Script({"a": [FINE], "b": [FINE]})
    with pytest.raises(ClusterError, match="it lists 1 documents, but 2 were sent"):
        script.run(lambda lines: script.send(lines)[:1])
    with pytest.raises(ClusterError, match="it lists other document ids than were sent"):
        script.run(lambda lines: script.send(lines)[::-1])


def _opensearch(url: str) -> Any:
    return OpenSearch(url, max_retries=0)


def _elasticsearch(url: str) -> Any:
    return Elasticsearch(url, max_retries=0)


@pytest.mark.parametrize("connect", [_opensearch, _elasticsearch])
def test_both_client_libraries_send_bulk_requests(connect: Callable[[str], Any]) -> None:
    asked: list[Asked] = []
    items = {
        "ü": {"index": {"_id": "ü", "_index": "i-000001", "status": 201}},
        "b": {"index": {"_id": "b", "_index": "i-000001", "status": 400, "error": {"type": "t", "reason": "why"}}},
        "c": {"delete": {"_id": "c", "_index": "i-000001", "status": 404}},
    }

    def engine(request: Asked) -> Answer:
        asked.append(request)
        headers = {"x-elastic-product": "Elasticsearch"}
        if len(asked) == 1:
            return Answer({"error": {"type": "circuit_breaking_exception", "reason": "too large"}}, 429, headers)
        if len(asked) == 2:
            return Answer(b"<html>busy</html>", 503, {**headers, "content-type": "text/html"})
        actions = [line for line in map(json.loads, request.body.splitlines()) if line]
        return Answer({"items": [items[next(iter(action.values()))["_id"]] for action in actions]}, 200, headers)

    pauses: list[float] = []
    lines: list[Any] = [
        ({"index": {"_id": "ü"}}, "{}"),
        ({"index": {"_id": "b"}}, "{}"),
        ({"delete": {"_id": "c"}}, None),
    ]
    with serving(engine) as url, closing(connect(url)) as client:
        cluster = Cluster(client, backpressure=Backpressure(random=lambda: 1.0, sleep=pauses.append))
        outcomes = cluster.bulk(lines, index="i").outcomes
    assert outcomes == [("ü", ""), ("b", "t: why"), ("c", "")]
    assert pauses == [0.5, 1]
    assert {request.path.partition("?")[0] for request in asked} == {"/i/_bulk"}


@pytest.mark.parametrize("connect", [_opensearch, _elasticsearch])
def test_engines_are_asked_to_wait_no_longer_than_the_call(connect: Callable[[str], Any]) -> None:
    """The OpenSearch library would take the parameter for its own timeout."""
    paths: list[str] = []

    def engine(request: Asked) -> Answer:
        paths.append(request.path)
        error = {"type": "unavailable_shards_exception", "reason": "[i][2] primary shard is not active"}
        item = {"index": {"_id": "a", "_index": "i", "status": 503, "error": error}}
        return Answer({"items": [item]}, 200, {"x-elastic-product": "Elasticsearch"})

    with serving(engine) as url, closing(connect(url)) as client:
        cluster = Cluster(client, backpressure=Backpressure(sleep=lambda seconds: None))
        patience = Patience(cluster.backpressure, seconds=1)
        for _ in range(2):
            assert cluster.bulk([({"index": {"_id": "a"}}, "{}")], index="i", patience=patience).succeeded == 0
    assert all(path.startswith("/i/_bulk?") and path.count("?") == 1 for path in paths)
    assert ["timeout=1s" in path for path in paths] == [True] * 4
