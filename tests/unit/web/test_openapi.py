"""The API conforms to its OpenAPI description, whatever schemathesis sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

import deepterms as dt
from deepterms.web import Limits, create_app
from tests.unit.web.conftest import GridExtractor, fill
from tests.unit.web.servers import running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
OPERATIONS = [
    ("POST", "/v1/search/image"),
    ("POST", "/v1/search/vector"),
    ("POST", "/v1/search/id"),
    ("POST", "/v1/explain"),
    ("GET", "/v1/document"),
    ("DELETE", "/v1/document"),
    ("POST", "/v1/documents"),
    ("POST", "/v1/documents/stream"),
    ("POST", "/v1/documents/delete"),
    ("GET", "/v1/thumbnail"),
    ("GET", "/v1/facets"),
    ("GET", "/v1/status"),
    ("POST", "/v1/session"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def api(photos: Path, features: NDArray[Any]) -> Iterator[Any]:
    memory = dt.MemoryIndex(dt.DeepPermutation(features.shape[1], top_k=20))
    fill(memory, photos, features)
    app = create_app(
        memory,
        describer=GridExtractor(),
        photographs=[photos],
        limits=Limits(decoding_seconds=60, seconds=60),  # the test machine may be busy
    )
    with running(app) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_responses_conform_to_the_description(api: Any, operation: tuple[str, str]) -> None:
    method, path = operation

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


def test_every_operation_is_tested(api: Any) -> None:
    paths = api.raw_schema["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(OPERATIONS)
