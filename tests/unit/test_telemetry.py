"""Spans of a search and an add, from a fake engine; and nothing at all without OpenTelemetry."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from opensearchpy import OpenSearch
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import deepterms as dt
from deepterms import telemetry
from deepterms.cluster.cluster import Cluster
from deepterms.errors import RequestRejected
from deepterms.schema.index_spec import IndexSpec, IndexState
from deepterms.schema.layouts import find_layout
from deepterms.search.filter_counts import FilterCounts
from deepterms.search.options import SearchOptions
from deepterms.search.searcher import Searcher
from tests.unit.fake_server import Answer, Asked, serving

ENCODER = dt.DeepPermutation(4, top_k=2)
STATE = IndexState("i", IndexSpec(ENCODER, find_layout("words"), None), {"i-1": "u1"}, field="c_0123abcd")
EXPORTER = InMemorySpanExporter()


@pytest.fixture
def index() -> Iterator[dt.SurrogateIndex]:
    def engine(asked: Asked) -> Answer:
        if asked.path == "/":
            return Answer({"version": {"number": "3.8.0", "distribution": "opensearch"}})
        if "/_settings" in asked.path:
            return Answer({"i-1": {"settings": {"index": {"uuid": "u1"}}}})
        if "/_bulk" in asked.path:
            actions = [json.loads(line) for line in asked.body.splitlines()[::2]]
            written = [{"index": {**action["index"], "_index": "i-1", "status": 201}} for action in actions]
            return Answer({"items": written})
        hits = [{"_index": "i-1", "_id": "a", "_score": 3.0, "_source": {}}]
        shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
        found = {"took": 1, "timed_out": False, "_shards": shards, "hits": {"hits": hits}}
        if "/_msearch" in asked.path:
            return Answer({"responses": [found] * (len(asked.body.splitlines()) // 2)})
        return Answer(found)

    with serving(engine) as url:
        client = OpenSearch(url)
        yield dt.SurrogateIndex(Cluster(client), STATE)
        client.close()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
        trace.set_tracer_provider(provider)
    EXPORTER.clear()
    telemetry._get_tracer.cache_clear()
    yield EXPORTER


def test_spans_say_what_was_done(index: dt.SurrogateIndex, spans: InMemorySpanExporter) -> None:
    index.add(["a", "zero"], np.array([[1, 0, 0, 0], [0, 0, 0, 0]]))
    index.search([1, 0, 0, 0], k=3, rerank=0)
    added, searched = spans.get_finished_spans()
    assert (added.name, dict(added.attributes or {})) == (
        "deepterms.add",
        {"deepterms.index": "i", "deepterms.documents": 1, "deepterms.failed": 1},
    )
    assert (searched.name, dict(searched.attributes or {})) == (
        "deepterms.search",
        {"deepterms.index": "i", "deepterms.k": 3, "deepterms.rerank": 0, "deepterms.hits": 1},
    )


def test_many_searches_are_one_span_and_failed_ones_one_log_line(
    index: dt.SurrogateIndex, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="deepterms")
    index.search_many(np.array([[1, 0, 0, 0], [0, 0.125, 0, 0]]), k=3, rerank=0)
    assert not caplog.records
    found = index.search_many(np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0.125, 0, 0, 0]]), k=3, rerank=0)
    assert [len(hits) for hits in found] == [1, 0, 1]
    first, second = spans.get_finished_spans()
    whole = {"deepterms.index": "i", "deepterms.k": 3, "deepterms.rerank": 0}
    assert (first.name, second.name) == ("deepterms.search_many", "deepterms.search_many")
    assert dict(first.attributes or {}) == whole | {
        "deepterms.queries": 2,
        "deepterms.hits": 2,
        "deepterms.failed": 0,
    }
    assert dict(second.attributes or {}) == whole | {
        "deepterms.queries": 3,
        "deepterms.hits": 2,
        "deepterms.failed": 1,
    }
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 of 3 searches of i failed: " in record.getMessage()
    assert "0.125" not in record.getMessage()  # no vectors


def test_a_search_that_fails_says_so_in_its_span(spans: InMemorySpanExporter) -> None:
    with serving(lambda asked: Answer({"error": "busy"}, status=500)) as url, closing(OpenSearch(url)) as client:
        cluster = Cluster(client)
        searcher = Searcher(cluster, STATE, FilterCounts(cluster, "i"))
        searcher.cluster._clause_limit = 1_024
        with pytest.raises(RequestRejected):
            searcher.search(np.ones((1, 4), dtype=np.float32), SearchOptions(rerank=0))
    (failed,) = spans.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR


def test_without_opentelemetry_all_works(
    index: dt.SurrogateIndex, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", missing)
    telemetry._get_tracer.cache_clear()
    assert index.search([1, 0, 0, 0], k=3, rerank=0).ids == ["a"]
    assert spans.get_finished_spans() == ()
    telemetry._get_tracer.cache_clear()


@pytest.mark.parametrize("error", [{"root_cause": None}, {"root_cause": [{"reason": None}]}, {"type": 1}])
def test_with_tracing_on_an_odd_refusal_is_still_a_refusal(error: Any, spans: InMemorySpanExporter) -> None:
    """The Elasticsearch client prints its error into its span, and fails at that."""
    refusing = Answer({"error": error, "status": 400}, 400, {"x-elastic-product": "Elasticsearch"})
    with serving(lambda _: refusing) as url, closing(Elasticsearch(url, max_retries=0)) as client:
        with pytest.raises(RequestRejected):
            Cluster(client).request("GET", "/holidays")
        assert spans.get_finished_spans()
