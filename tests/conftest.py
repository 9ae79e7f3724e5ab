"""Fixtures for real clusters, and the handling of tests whose cluster is unavailable."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, settings

from tests.clusters import ClusterUnavailable
from tests.clusters.containers import ENGINES, Client, delete_indices, running_clusters

pytest_plugins = ["pytester"]

# No deadline: on a busy machine, Hypothesis would report one slow example as flaky.
settings.register_profile("deepterms", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("deepterms")

_NO_CLUSTER = "no cluster: "
_NO_BROWSER = "no browser: "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-clusters",
        action="store_true",
        help="fail the tests whose cluster is unavailable, instead of skipping them",
    )
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected responses of pipelines, and lock released files that are not locked yet",
    )


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _engines(item):
            item.add_marker(pytest.mark.cluster)


def _engines(item: pytest.Item) -> set[str]:
    """Return the names of the engines that a test runs on."""
    engines = ENGINES.keys() & getattr(item, "fixturenames", ())
    if isinstance(item, pytest.Function) and "cluster" in item.fixturenames:
        engines.add(str(item.callspec.params["cluster"]))
    return engines


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Client]]]:
    """One cluster per engine that the selected tests need, started together with the first of these tests."""
    engines = {engine for item in request.session.items for engine in _engines(item)}
    with running_clusters(engines) as futures:
        yield futures


@pytest.fixture(scope="session")
def opensearch(clusters: Mapping[str, Future[Client]]) -> Client:
    """A client of a single-node OpenSearch that runs until the end of the session."""
    return clusters["opensearch"].result()


@pytest.fixture(scope="session")
def elasticsearch(clusters: Mapping[str, Future[Client]]) -> Client:
    """A client of a single-node Elasticsearch that runs until the end of the session."""
    return clusters["elasticsearch"].result()


@pytest.fixture(params=sorted(ENGINES))
def cluster(request: pytest.FixtureRequest) -> Client:
    """A client of each engine in turn: the test runs once per engine."""
    client: Client = request.getfixturevalue(request.param)
    return client


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for an index or alias; after the test, its indices are deleted from the clusters of the test."""
    # Derived from the test's name, not random, so that a failure can be reproduced exactly.
    name = "test-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    yield name
    for engine in _engines(request.node):
        delete_indices(request.getfixturevalue(engine), name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    try:
        return (yield)
    except ClusterUnavailable as error:
        reason = f"{_NO_CLUSTER}{error}"
    # Outside the except clause, so that the report shows the reason without a chain of tracebacks.
    if item.config.getoption("--require-clusters"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


pytest_runtest_call = pytest_runtest_setup  # a test body may also raise it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests that were skipped because something is missing, which the dots would hide."""
    _name_skipped(terminalreporter, _NO_CLUSTER, "a cluster")
    _name_skipped(terminalreporter, _NO_BROWSER, "a browser")


def _name_skipped(terminalreporter: pytest.TerminalReporter, kind: str, wanted: str) -> None:
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(kind):
                reasons.setdefault(reason.removeprefix(kind), []).append(report.nodeid)
    if reasons:
        count = sum(map(len, reasons.values()))
        terminalreporter.section(f"{count} skipped for want of {wanted}", yellow=True)
        for reason, tests in reasons.items():
            terminalreporter.line(reason)
            for test in tests:
                terminalreporter.line(f"  {test}")
