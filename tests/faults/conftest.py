"""A three-node cluster per engine for the tests that inject faults, and a table of their results."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from tests.clusters.trio import KINDS, Trio, running_trio
from tests.faults.workload import Tally

_TALLIES: dict[tuple[str, str], Tally] = defaultdict(Tally)

# How often each fault is made; the table in docs/benchmarks.md has more rounds than a run of all tests.
ROUNDS = int(os.environ.get("DEEPTERMS_FAULT_ROUNDS", "1"))


@pytest.fixture(scope="package", params=sorted(KINDS))
def trio(request: pytest.FixtureRequest) -> Iterator[Trio]:
    """A cluster of one engine at a time, because two would need too much memory."""
    for library in ("opensearch", "elasticsearch", "elastic_transport"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # it logs a traceback for each request that fails
    with running_trio(request.param) as running:
        yield running


@pytest.fixture(params=range(ROUNDS))
def seed(request: pytest.FixtureRequest) -> int:
    """A number that determines the documents and the timing, different in each round."""
    return int(request.param)


@pytest.fixture
def judged(trio: Trio) -> Callable[[str, Tally], None]:
    """Add the result of a fault to the table, and fail the test if anything was lost or wrong."""

    def judge(fault: str, tally: Tally) -> None:
        _TALLIES[trio.engine, fault] += tally
        assert (tally.lost, tally.wrong, tally.remarks) == (0, 0, [])
        assert tally.acknowledged > 0

    return judge


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TALLIES:
        return
    terminalreporter.section("faults")
    columns = ("times", "acknowledged", "lost", "wrong", "searches", "partial", "errors", "refused")
    terminalreporter.line(f"| engine | fault | {' | '.join(columns)} |")
    terminalreporter.line("|---" * (2 + len(columns)) + "|")
    for (engine, fault), tally in _TALLIES.items():
        terminalreporter.line(
            f"| {engine} | {fault} | {' | '.join(f'{getattr(tally, column):,}' for column in columns)} |"
        )
