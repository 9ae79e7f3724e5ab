"""A test whose cluster is unavailable is skipped, counted and listed, or fails if clusters are required."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

TESTS_FOLDER = Path(__file__).parents[1]
TESTS = """
import pytest
from tests.clusters import ClusterUnavailable

def test_on_either(cluster, unique_name): ...
def test_on_one(opensearch): ...
def test_with_a_cluster_of_its_own(): raise ClusterUnavailable("three nodes do not fit")
def test_elsewhere(): pytest.skip("for another reason")
def test_anywhere(): ...
"""


@pytest.fixture
def without_docker(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{pytester.path / 'nothing.sock'}")
    shutil.copy(TESTS_FOLDER.parent / "pyproject.toml", pytester.path)  # markers and options
    shutil.copy(TESTS_FOLDER / "conftest.py", pytester.mkdir("tests"))
    pytester.makepyfile(**{"tests/test_some": TESTS})
    return pytester


def test_skips_are_counted_and_listed(without_docker: pytest.Pytester) -> None:
    result = without_docker.runpytest()
    result.assert_outcomes(passed=1, skipped=5)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "=* 4 skipped for want of a cluster =*",
            "Docker does not answer at unix://*nothing.sock*",
            "  tests/test_some.py::test_on_either?elasticsearch?",
            "  tests/test_some.py::test_on_either?opensearch?",
            "  tests/test_some.py::test_on_one",
            "three nodes do not fit",
            "  tests/test_some.py::test_with_a_cluster_of_its_own",
        ],
        consecutive=True,
    )


def test_required_clusters_are_failures(without_docker: pytest.Pytester) -> None:
    result = without_docker.runpytest("--require-clusters")
    result.assert_outcomes(passed=1, skipped=1, errors=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["no cluster: Docker does not answer at unix://*nothing.sock*"])
    result.stdout.no_fnmatch_line("*skipped for want of a cluster*")


def test_marker_follows_from_the_fixtures(without_docker: pytest.Pytester) -> None:
    result = without_docker.runpytest("-m", "cluster")
    result.assert_outcomes(skipped=3, deselected=3)
