"""Tests of the messages for incompatible clients and clusters, against small servers that imitate those versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch

import deepterms as dt
from deepterms.cluster.cluster import Cluster
from deepterms.cluster.engine import Engine, explain_version_conflict, parse_engine
from deepterms.errors import ClusterError, ClusterUnreachable, RequestRejected, UnsupportedEngine
from deepterms.schema.layouts import LAYOUTS, select_default_layout
from tests.unit.fake_server import Answer, Asked, serving

ENCODER = dt.DeepPermutation(4, top_k=2)
PRODUCT = {"x-elastic-product": "Elasticsearch"}
Server = Callable[[Asked], Answer]


def elasticsearch(number: str, **version: Any) -> Server:
    """Imitate an Elasticsearch, which supports clients of its own major version and of the one before."""
    major = int(number.partition(".")[0])

    def answer(asked: Asked) -> Answer:
        compatible = re.search(r"compatible-with=(\d+)", asked.headers.get("accept", ""))
        if compatible and int(compatible[1]) not in (major, major - 1):
            cause = (
                f"Accept version must be either version {major} or {major - 1}, but found {compatible[1]}. "
                f"Accept={asked.headers['accept']}"
            )
            kind = {"type": "media_type_header_exception", "reason": "Invalid media-type value on headers [Accept]"}
            error = {"root_cause": [kind], **kind, "caused_by": {"type": "status_exception", "reason": cause}}
            return Answer({"error": error, "status": 400}, 400, PRODUCT)
        if asked.path == "/":
            return Answer({"version": {"number": number, **version}, "tagline": "You Know, for Search"}, 200, PRODUCT)
        return Answer({"error": {"type": "index_not_found_exception"}, "status": 404}, 404, PRODUCT)

    return answer


def opensearch(number: str) -> Server:
    def answer(asked: Asked) -> Answer:
        if asked.path == "/":
            return Answer({"version": {"number": number, "distribution": "opensearch"}})
        return Answer({"deepterms-words-v1-holidays-000001": {"mappings": {}}})

    return answer


def page(status: int) -> Server:
    """Imitate a web server that is not an engine."""
    return lambda asked: Answer(b"<html>" + b"welcome " * 1000 + b"</html>", status, {"content-type": "text/html"})


def client_for(library: str, url: str) -> Any:
    return OpenSearch(url, max_retries=0) if library == "opensearchpy" else Elasticsearch(url, max_retries=0)


def test_create_explains_incompatible_versions() -> None:
    cases: list[tuple[str, Server, str]] = [
        (
            "elasticsearch",
            elasticsearch("8.19.0"),
            "the client library elasticsearch 9 does not support Elasticsearch 8; "
            'install one that does: pip install "elasticsearch<9"',
        ),
        (
            "elasticsearch",
            elasticsearch("7.17.0"),
            "the cluster is Elasticsearch 7, which is too old; "
            "expected Elasticsearch 8 or later, or OpenSearch 2 or later",
        ),
        (
            "opensearchpy",
            elasticsearch("7.17.0"),
            "Elasticsearch 7.17.0 is too old; expected Elasticsearch 8 or later, or OpenSearch 2 or later",
        ),
        (
            "opensearchpy",
            opensearch("1.3.20"),
            "OpenSearch 1.3.20 is too old; expected Elasticsearch 8 or later, or OpenSearch 2 or later",
        ),
        (
            "elasticsearch",
            opensearch("3.8.0"),
            "The client noticed that the server is not Elasticsearch and we do not support this unknown product; "
            "for OpenSearch pass an opensearchpy.OpenSearch client",
        ),
        (
            "opensearchpy",
            opensearch("7.10.2"),
            "OpenSearch reports version 7.10 instead of its own; "
            "set the cluster setting compatibility.override_main_response_version to false",
        ),
        (
            "elasticsearch",
            elasticsearch("9.2.0", build_flavor="serverless"),
            "Elasticsearch Serverless does not let an index set its number of shards, as deepterms does; "
            "use a self-managed cluster or a hosted deployment",
        ),
        (
            "opensearchpy",
            page(404),
            "the server at this address is neither Elasticsearch nor OpenSearch; "
            "expected Elasticsearch 8 or later, or OpenSearch 2 or later",
        ),
    ]
    for library, server, sentence in cases:
        with serving(server) as url, client_for(library, url) as client:
            for layout in (None, "words"):  # naming a layout does not skip the check
                with pytest.raises(UnsupportedEngine) as raised:
                    dt.SurrogateIndex.create(client, "holidays", encoder=ENCODER, layout=layout)
                assert str(raised.value) == sentence


def test_open_explains_what_its_first_request_shows() -> None:
    """Open only reads the mapping, since a role with access to one index may not be able to read the version."""
    for library, server, sentence in (
        ("elasticsearch", elasticsearch("8.19.0"), 'pip install "elasticsearch<9"'),
        ("elasticsearch", opensearch("3.8.0"), "for OpenSearch pass an opensearchpy.OpenSearch client"),
    ):
        with (
            serving(server) as url,
            client_for(library, url) as client,
            pytest.raises(UnsupportedEngine, match=re.escape(sentence)),
        ):
            dt.SurrogateIndex.open(client, "holidays")


def test_a_page_instead_of_json_gives_a_short_message() -> None:
    for library, status, part in (
        ("opensearchpy", 200, "unable to deserialize: text/html. Is there a proxy at that address?"),
        ("opensearchpy", 502, "(HTTP 502): <html>welcome"),
        ("elasticsearch", 200, "for OpenSearch pass an opensearchpy.OpenSearch client"),
        ("elasticsearch", 502, "(HTTP 502): <html>welcome"),
    ):
        with serving(page(status)) as url, client_for(library, url) as client:
            with pytest.raises(ClusterError) as raised:
                dt.SurrogateIndex.open(client, "holidays")
            assert len(str(raised.value)) < 700
            assert part in str(raised.value)


def test_broken_json_and_a_closed_port_are_told_apart() -> None:
    answers = {"opensearchpy": {}, "elasticsearch": PRODUCT}
    for library, headers in answers.items():
        with (
            serving(lambda asked, headers=headers: Answer(b'{"version":', 200, headers)) as url,  # type: ignore[misc]
            client_for(library, url) as client,
            pytest.raises(ClusterError, match="is not JSON"),
        ):
            Cluster(client).request("GET", "/_cluster/health")
        with client_for(library, "http://127.0.0.1:9") as client, pytest.raises(ClusterUnreachable):
            Cluster(client).request("GET", "/_cluster/health")


def test_a_rejection_for_another_reason_keeps_its_status() -> None:
    with serving(elasticsearch("9.2.0")) as url, client_for("elasticsearch", url) as client:
        with pytest.raises(RequestRejected) as raised:
            Cluster(client).request("GET", "/nothing")
        assert raised.value.status == 404


def test_paths_are_escaped_once() -> None:
    asked: list[str] = []

    def record(request: Asked) -> Answer:
        asked.append(request.path)
        return Answer({}, 200, PRODUCT)

    for library in ("opensearchpy", "elasticsearch"):
        asked.clear()
        with serving(record) as url, client_for(library, url) as client:
            Cluster(client).request("GET", "/a?b=c#d e\n%2F/größe/deepterms-*,x/_mapping", params={"flat": True})
        assert asked == ["/a%3Fb=c%23d%20e%0A%2F/gr%C3%B6%C3%9Fe/deepterms-*,x/_mapping?flat=true"]


@pytest.mark.parametrize(
    ("number", "layouts"),
    [
        ("2.0.0", {"words", "rank_features", "codewords"}),
        ("2.9.9", {"words", "rank_features", "codewords"}),
        ("2.10.0", {"frequencies", "words", "rank_features", "codewords"}),
        ("3.8.0-SNAPSHOT", {"frequencies", "words", "rank_features", "codewords"}),
    ],
)
def test_layouts_of_opensearch_versions(number: str, layouts: set[str]) -> None:
    engine = parse_engine({"version": {"number": number, "distribution": "opensearch"}})
    assert {layout.name for layout in LAYOUTS if layout.runs_on(engine)} == layouts


def test_layouts_of_elasticsearch_versions() -> None:
    for number in ("8.0.0", "8.19.21", "9.2.0"):
        engine = parse_engine({"version": {"number": number}})
        assert {layout.name for layout in LAYOUTS if layout.runs_on(engine)} == {"words", "rank_features", "codewords"}
        assert select_default_layout(engine).name == "words"
    with pytest.raises(
        UnsupportedEngine, match=r"Elasticsearch 9\.2\.0 does not have the layout 'frequencies'; it has:"
    ):
        LAYOUTS[0].require_engine(Engine("elasticsearch", (9, 2, 0)))


def test_another_error_is_not_a_version_conflict() -> None:
    assert explain_version_conflict("index_not_found_exception: no such index [version must be either]") is None
